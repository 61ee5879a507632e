module github.com/weirmq/weir

go 1.26.0

require (
	github.com/klauspost/compress v1.20.3
	github.com/pierrec/lz4/v4 v4.1.33
	golang.org/x/sys v0.49.0
)

require go.etcd.io/bbolt v1.5.0

require github.com/tetratelabs/wazero v1.12.0
