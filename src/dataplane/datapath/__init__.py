"""CONFIG + PACKETS -> PACKETS: host configuration compiled into tables, packets walked through them."""
