//go:build !linux

package netns

import "errors"

func able() error { return errors.New("only Linux has them") }

func within(string, func() error) error { return able() }
