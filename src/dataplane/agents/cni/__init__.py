"""CNI plugins: how pods get interfaces and addresses, and how nodes reach one another's pods."""
