module promferry.invalid/suites

go 1.26
