"""A farm in simulated time: the real core with simulated builders, losses, liars, and masters that die at any step.

`python -m buildmaster.tests.simulation --seed 7 --builders 50 --builds 500 --hours 8`: scanner, fleet, dispatch,
gathering, recovery, store and a real SQLite; what is simulated is the clock, the network and the machines behind it.
Nothing reads the real time and there are no threads, so a seed gives the same run each time, which the digest at the
end shows. After each commit the invariants are checked (invariants.py).
"""
