"""Orders plus market events make executions and fees: pure, shared by paper exchange and backtest."""
