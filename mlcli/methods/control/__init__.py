"""The pendulum of the lecture: its equations, policies that control it, and how a policy is carried to another one."""
