// An assembly file, if only an empty one, lets Go take functions without a body: main.go names Prometheus' own.
