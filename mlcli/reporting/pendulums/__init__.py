"""What is drawn of pendulums: charts over their states, and animations."""
