"""What a change does to the marts: two revisions compared, by what their columns and metrics mean, and the rules.

`meaning` follows SQL, `facts` reads a revision, `differences` compares two, `rules` judges, `revisions` fetches them,
`values` builds both over a warehouse, `report` says it all.
"""
