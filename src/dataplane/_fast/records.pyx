"""What the parsers of pcap records and pcapng blocks share; see records.pxd."""
