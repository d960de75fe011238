"""Directions of arrival at a uniform linear array, frames of snapshots at a time: the classical estimators.

F stands for any leading axes of frames; angles are theta [rad] from broadside, ascending in every frame, and
u = sin(theta) where a grid is meant. Every estimator takes an observation (F, M, N), a snapshot a row, and gives
(F, K).
"""
