"""The agent of dataflows: a graph network embeds operators, a generator proposes schemes, an evaluator picks. Entry: agent.py."""
