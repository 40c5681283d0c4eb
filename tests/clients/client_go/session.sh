# Builds the program with Debian's client-go, whose sources are in a GOPATH, and runs it.
set -eu
export GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=/opt/go-build GOTOOLCHAIN=local CGO_ENABLED=0
cp /clients/client_go/*.go .
go build -o session ./*.go
exec ./session
