//go:build tools

// Package programs names what is built from this module, so that `go mod tidy` keeps it in go.mod and go.sum.
package programs

import _ "github.com/jaegertracing/jaeger/cmd/jaeger"
