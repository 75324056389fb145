broker_url = "redis://"
worker_max_tasks_per_child = 100
