//go:build tools

// Package programs names what is built from this module, so that `go mod tidy` keeps it in go.mod and go.sum.
package programs

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
