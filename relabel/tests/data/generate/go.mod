module goldens

go 1.26

require (
	github.com/prometheus/common v0.72.1
	github.com/prometheus/prometheus v0.316.0
)
