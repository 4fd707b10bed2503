module promferry.invalid/suites/rw1

go 1.26

require github.com/prometheus/compliance/remotewrite/sender v0.0.0-20251024085838-7667b56d892f // indirect
