"""Drones: delivery in wind between zones and traffic, alone or as a fleet.

Point masses with a published power model; nothing here knows of rotor dynamics.
"""
