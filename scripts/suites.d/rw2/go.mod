module promferry.invalid/suites/rw2

go 1.26

require github.com/prometheus/compliance/remotewrite/sender v0.0.0-20260806071727-67b8327a2e93 // indirect
