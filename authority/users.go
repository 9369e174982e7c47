package authority

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// NewUser is what creating a user asks for.
type NewUser struct {
	AccountID     token.ID
	Name, Email   string
	Role          string
	BusinessUnits []string
}

// EditUser is a change of a user; nil leaves a field as it is.
type EditUser struct {
	Name, Email, Role *string
	BusinessUnits     *[]string
	Disabled          *bool
	// TokensOff switches the option to have tokens off (O12): the user's tokens stop
	// working, and none is issued, until it is switched on again.
	TokensOff *bool
}

// CreateUser makes a user of an account. The role must be named: it bounds what
// the user's tokens can do, and is nothing to guess.
func (a *Authority) CreateUser(ctx context.Context, by By, n NewUser) (token.User, error) {
	name, err := nameIn("name", n.Name)
	if err != nil {
		return token.User{}, err
	}
	if err := CheckEmail(n.Email); err != nil {
		return token.User{}, err
	}
	units, err := unitsIn(n.BusinessUnits)
	if err != nil {
		return token.User{}, err
	}
	var user token.User
	find := func(s *step) (target, error) {
		_, err := s.accountFor(n.AccountID)
		return target{account: n.AccountID}, err
	}
	err = a.change(ctx, by, VerbCreateUser, find, func(s *step) error {
		role, err := s.roleIn(n.Role)
		if err != nil {
			return err
		}
		if err := s.mayAssign("", "", &role); err != nil {
			return err
		}
		id, err := a.NewID("usr")
		if err != nil {
			return err
		}
		user = token.User{
			ID: id, AccountID: n.AccountID, Name: name, Email: n.Email, Role: n.Role, BusinessUnits: units,
			CreatedAt: s.now, UpdatedAt: s.now,
		}
		if err := s.tx.InsertUser(&user); err != nil {
			return err
		}
		s.target.id = string(id)
		return s.audit(nil, userFields(&user))
	})
	if err != nil {
		return token.User{}, err
	}
	return user, nil
}

// EditUser changes a user. version is the one that was read (If-Match). The
// user's tokens follow at once: the gate judges them by the role and the state
// that the user has at the time.
func (a *Authority) EditUser(ctx context.Context, by By, id token.ID, version int64, e EditUser) (token.User, error) {
	if e.Name != nil {
		name, err := nameIn("name", *e.Name)
		if err != nil {
			return token.User{}, err
		}
		e.Name = &name
	}
	if e.Email != nil {
		if err := CheckEmail(*e.Email); err != nil {
			return token.User{}, err
		}
	}
	if e.BusinessUnits != nil {
		units, err := unitsIn(*e.BusinessUnits)
		if err != nil {
			return token.User{}, err
		}
		e.BusinessUnits = &units
	}
	var user token.User
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	err := a.change(ctx, by, VerbEditUser, find, func(s *step) error {
		if err := checkVersion(version, user.Version); err != nil {
			return err
		}
		was := userFields(&user)
		set(&user.Name, e.Name)
		set(&user.Email, e.Email)
		if err := s.switchUser(&user, &e); err != nil {
			return err
		}
		if err := s.assign(&user, &e); err != nil {
			return err
		}
		before, after, err := differing(was, userFields(&user))
		if err != nil || len(after) == 0 {
			return err
		}
		user.UpdatedAt = s.now
		if err := s.tx.UpdateUser(&user); err != nil {
			return err
		}
		return s.audit(before, after)
	})
	if err != nil {
		return token.User{}, err
	}
	return user, nil
}

// switchUser disables or enables a user, and the user's token option.
func (s *step) switchUser(user *token.User, e *EditUser) error {
	if user.Role == roleOwner && !s.asker.free() && s.asker.user != nil && s.asker.user.Role != roleOwner {
		// Whoever edits an owner's address or state could take the account over.
		return refuse(ErrExceedsGrantor, "only an owner, or the operator, makes or changes an owner")
	}
	if e.Disabled != nil || differs(user.TokensOff, e.TokensOff) {
		if err := s.also(VerbSwitchUser); err != nil {
			return err
		}
	}
	if ends(user.Disabled, e.Disabled) || ends(user.TokensOff, e.TokensOff) {
		user.EnabledAt = s.now
	}
	set(&user.Disabled, e.Disabled)
	set(&user.TokensOff, e.TokensOff)
	return nil
}

// assign changes role and business units.
func (s *step) assign(user *token.User, e *EditUser) error {
	units := e.BusinessUnits != nil && !slices.Equal(*e.BusinessUnits, user.BusinessUnits)
	if !units && !differs(user.Role, e.Role) {
		return nil
	}
	if err := s.also(VerbAssignRole); err != nil {
		return err
	}
	is := user.Role
	set(&is, e.Role)
	role, err := s.roleIn(is)
	if err != nil {
		return err
	}
	if err := s.mayAssign(user.ID, user.Role, &role); err != nil {
		return err
	}
	user.Role = role.Name
	set(&user.BusinessUnits, e.BusinessUnits)
	return nil
}

func (s *step) mayAssign(of token.ID, was string, is *token.Role) error {
	if s.asker.free() {
		return nil
	}
	known, err := s.declared()
	if err != nil {
		return err
	}
	return s.asker.mayAssign(of, was, is, known)
}

// roleIn reads a role that was asked for.
func (s *step) roleIn(name string) (token.Role, error) {
	problem := invalid("role", "must be the name of a role, such as owner, admin, member or auditor")
	if checkRoleName(name) != nil {
		return token.Role{}, problem
	}
	role, err := s.tx.Role(name)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return token.Role{}, problem
	}
	return role, err
}

func (s *step) findUser(id token.ID, user *token.User) (target, error) {
	t := target{id: string(id), user: id}
	if !checkID(id) {
		return t, refuse(ErrNotFound, "there is no such user")
	}
	var err error
	*user, err = s.tx.User(id)
	t.account = user.AccountID
	return t, found(err, "user")
}

// User shows one user.
func (a *Authority) User(ctx context.Context, by By, id token.ID) (token.User, error) {
	var user token.User
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	if err := a.see(ctx, by, VerbShowUser, find, func(*step) error { return nil }); err != nil {
		return token.User{}, err
	}
	return user, nil
}

// Users lists a page of an account's users, newest first; an empty account lists
// those of all.
func (a *Authority) Users(ctx context.Context, by By, account token.ID, p tokenstore.Page) ([]token.User, string, error) {
	if err := checkFilter("account_id", string(account)); err != nil {
		return nil, "", err
	}
	var (
		users []token.User
		next  string
	)
	find := func(*step) (target, error) { return target{account: account}, nil }
	err := a.see(ctx, by, VerbListUsers, find, func(s *step) (err error) {
		users, next, err = s.tx.Users(account, p)
		return badCursor(err)
	})
	if err != nil {
		return nil, "", err
	}
	return users, next, nil
}

// CheckEmail accepts no address, or one plain address: it goes into the envelope
// and the headers of mails, so that quoted parts, comments, display names, line
// ends and address literals are refused, and so are characters beyond ASCII,
// which not every relay takes (a domain of those has an ASCII form).
func CheckEmail(address string) error {
	if address == "" {
		return nil
	}
	if err := notify.CheckAddress(address); err != nil {
		return invalid("email", err.Error())
	}
	return nil
}

// unitsIn sorts business units, drops repetitions and judges them.
func unitsIn(units []string) ([]string, error) {
	sorted, err := token.CheckUnits(units)
	return sorted, asInvalid(err)
}
