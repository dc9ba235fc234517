//go:build tools

// Package programs names what is built from this module. Its go.mod is of `go get`, which takes the versions that
// kube-router was released with; `go mod tidy` would raise some for tests that nobody runs here.
package programs

import _ "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
