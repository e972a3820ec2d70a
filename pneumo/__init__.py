"""pneumo reads chest radiographs for pneumonia with three networks and shows where each looked.

For research and teaching, not for diagnosis.
"""
