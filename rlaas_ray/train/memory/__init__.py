"""PPO for policies with a memory: LSTM, GRU or attention over sequences, from sampling to the bundle (docs/memory.md)."""
