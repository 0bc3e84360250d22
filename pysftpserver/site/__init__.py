"""What people see and may do, and what happens then: site files and the layers that they ask for."""
