"""What a DCA trader talks about: plain values, no I/O, no clock, no logging."""
