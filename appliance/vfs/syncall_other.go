//go:build !linux

package vfs

import "errors"

// CanSyncAll implements AllSyncer.
func (o *osFS) CanSyncAll() bool { return false }

// SyncAll implements AllSyncer.
func (o *osFS) SyncAll() error { return errors.ErrUnsupported }
