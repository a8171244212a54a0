"""DQN and its extensions: double, dueling, n-step, prioritised, distributional."""
