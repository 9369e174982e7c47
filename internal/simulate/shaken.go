package simulate

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/tokenstore"
)

// shaken is the store as one scheduler reaches it: other things happen between its
// transactions, and at one of them it may die.
type shaken struct {
	tokenstore.Store
	between func()
	left    int // transactions until it dies; below 0: it does not
	how     death
	dead    bool
}

// death is what becomes of the transaction at which a process dies.
type death int

const (
	beforeIt death = iota
	insideIt
	afterIt // it was committed, and nobody heard of that
)

var (
	errKilled = fmt.Errorf("%w: the process was killed", tokenstore.ErrUnavailable)
	errInside = errors.New("killed inside")
)

func (s *shaken) Read(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if s.dead {
		return errKilled
	}
	s.between()
	return s.Store.Read(ctx, f)
}

func (s *shaken) Write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	if s.dead {
		return errKilled
	}
	s.between()
	if s.left != 0 {
		s.left--
		return s.Store.Write(ctx, f)
	}
	s.dead = true
	switch s.how {
	case insideIt:
		err := s.Store.Write(ctx, func(tx *tokenstore.Tx) error {
			if err := f(tx); err != nil {
				return err
			}
			return errInside
		})
		return errors.Join(errKilled, err)
	case afterIt:
		return errors.Join(errKilled, s.Store.Write(ctx, f))
	default:
		return errKilled
	}
}
