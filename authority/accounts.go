package authority

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// NewAccount is what creating an account asks for; an empty policy means default.
type NewAccount struct{ Name, Policy string }

// EditAccount is a change of an account; nil leaves a field as it is.
type EditAccount struct {
	Name, Policy *string
	Disabled     *bool
	// TokensOff switches the option to have tokens off (O11): its tokens stop
	// working, and none is issued, until it is switched on again.
	TokensOff *bool
}

// CreateAccount makes an account. Names need not be unique: an account is known
// by its ID.
func (a *Authority) CreateAccount(ctx context.Context, by By, n NewAccount) (token.Account, error) {
	name, err := nameIn("name", n.Name)
	if err != nil {
		return token.Account{}, err
	}
	if n.Policy == "" {
		n.Policy = token.DefaultPolicyName
	}
	var account token.Account
	err = a.change(ctx, by, VerbCreateAccount, anything, func(s *step) error {
		if err := s.checkPolicy(n.Policy); err != nil {
			return err
		}
		id, err := a.NewID("acc")
		if err != nil {
			return err
		}
		account = token.Account{ID: id, Name: name, Policy: n.Policy, CreatedAt: s.now, UpdatedAt: s.now}
		if err := s.tx.InsertAccount(&account); err != nil {
			return err
		}
		s.target = target{id: string(id), account: id}
		return s.audit(nil, accountFields(&account))
	})
	if err != nil {
		return token.Account{}, err
	}
	return account, nil
}

// EditAccount changes an account. version is the one that was read (If-Match).
// Disabling an account stops every token of it until it is enabled again; it
// changes none of them.
func (a *Authority) EditAccount(ctx context.Context, by By, id token.ID, version int64, e EditAccount) (token.Account, error) {
	if e.Name != nil {
		name, err := nameIn("name", *e.Name)
		if err != nil {
			return token.Account{}, err
		}
		e.Name = &name
	}
	var account token.Account
	find := func(s *step) (target, error) { return s.findAccount(id, &account) }
	err := a.change(ctx, by, VerbEditAccount, find, func(s *step) error {
		if err := checkVersion(version, account.Version); err != nil {
			return err
		}
		was := accountFields(&account)
		set(&account.Name, e.Name)
		// Nothing else asks for the state, so that to name it is to switch it.
		if e.Disabled != nil || differs(account.TokensOff, e.TokensOff) {
			if err := s.also(VerbSwitchAccount); err != nil {
				return err
			}
		}
		if ends(account.Disabled, e.Disabled) || ends(account.TokensOff, e.TokensOff) {
			// What could not be used was not unused.
			account.EnabledAt = s.now
		}
		set(&account.Disabled, e.Disabled)
		set(&account.TokensOff, e.TokensOff)
		if differs(account.Policy, e.Policy) {
			if err := s.also(VerbAssignPolicy); err != nil {
				return err
			}
			if err := s.checkPolicy(*e.Policy); err != nil {
				return err
			}
			account.Policy = *e.Policy
		}
		before, after, err := differing(was, accountFields(&account))
		if err != nil || len(after) == 0 {
			return err
		}
		account.UpdatedAt = s.now
		if err := s.tx.UpdateAccount(&account); err != nil {
			return err
		}
		return s.audit(before, after)
	})
	if err != nil {
		return token.Account{}, err
	}
	return account, nil
}

// differs says whether a value was given that is another one.
func differs[T comparable](field T, value *T) bool { return value != nil && *value != field }

// ends says whether a switch is taken back.
func ends(field bool, value *bool) bool { return field && value != nil && !*value }

// set takes over a value that was given.
func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func (s *step) checkPolicy(name string) error {
	problem := invalid("policy", "must be the name of a policy; `policy` in the Caddyfile's `sallyport` block declares policies")
	if token.CheckPolicyName(name) != nil {
		return problem
	}
	_, err := s.tx.Policy(name)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return problem
	}
	return err
}

func (s *step) findAccount(id token.ID, account *token.Account) (target, error) {
	t := target{id: string(id), account: id}
	if !checkID(id) {
		return t, refuse(ErrNotFound, "there is no such account")
	}
	var err error
	*account, err = s.tx.Account(id)
	return t, found(err, "account")
}

// Account shows one account.
func (a *Authority) Account(ctx context.Context, by By, id token.ID) (token.Account, error) {
	var account token.Account
	find := func(s *step) (target, error) { return s.findAccount(id, &account) }
	if err := a.see(ctx, by, VerbShowAccount, find, func(*step) error { return nil }); err != nil {
		return token.Account{}, err
	}
	return account, nil
}

// Accounts lists a page, newest first.
func (a *Authority) Accounts(ctx context.Context, by By, p tokenstore.Page) ([]token.Account, string, error) {
	var (
		accounts []token.Account
		next     string
	)
	err := a.see(ctx, by, VerbListAccounts, anything, func(s *step) (err error) {
		accounts, next, err = s.tx.Accounts(p)
		return badCursor(err)
	})
	if err != nil {
		return nil, "", err
	}
	return accounts, next, nil
}
