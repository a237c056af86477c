"""Pure decisions: what to do now, and why, also when it is nothing."""
