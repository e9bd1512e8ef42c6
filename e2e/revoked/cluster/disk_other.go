//go:build !linux

package cluster

import "errors"

var errNoDisk = errors.New("only Linux has disks to fill")

func mountDisk(string) error { return errNoDisk }

func unmountDisk(string) error { return errNoDisk }
