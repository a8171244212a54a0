"""PPO for many agents: one policy shared by all, or one for each; turns, absences and different spaces included.

Found by families.py when a spec says `multi_agent`. Envs are rlaas_ray/envs/multi_agent.py's.
"""
