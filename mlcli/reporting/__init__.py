"""What people look at: grids, charts, pages."""
