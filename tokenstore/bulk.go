package tokenstore

import (
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

const (
	// maxBulkShared bounds each kind of what the records of a bulk read share, and
	// so its memory. Past it the read starts to collect anew, which costs time only.
	maxBulkShared = 50_000
)

// All reads for Bulk.All, in a transaction that is a snapshot.
//
// The database and this process work at the same time: one goroutine fetches a
// piece while the piece before it is decoded and handed out.
func (r *Records) All(tx *Tx, f func(*Record) error) error {
	var (
		pieces  = make(chan *bulkPiece)
		stopped atomic.Bool
		fetched error // to be read when pieces is closed
		panicky any
	)
	go func() {
		defer close(pieces)
		// A panic belongs to the caller's goroutine, where it can be handled.
		defer func() { panicky = recover() }()
		fetched = tx.fetchBulk(pieces, &stopped)
	}()
	// Also when f panics: the goroutine uses the caller's transaction.
	defer func() {
		stopped.Store(true)
		for range pieces { //nolint:revive // until it has ended
		}
		if panicky != nil {
			panic(panicky)
		}
	}()
	b := &bulkDecoder{
		records: r, allow: map[string]token.AllowList{}, words: map[string][]string{},
		accounts: map[string]*token.Account{}, users: map[string]*token.User{},
	}
	for piece := range pieces {
		b.learn(piece)
		for i := range piece.rows {
			rec, err := b.load(&piece.rows[i])
			if err != nil {
				continue
			}
			if err := f(rec); err != nil {
				return err
			}
		}
	}
	return fetched
}

// bulkPiece is a number of tokens with their secrets, and those of their owners
// that did not come with a piece before it.
type bulkPiece struct {
	rows     []db.BulkRecordsRow
	accounts []db.BulkAccountsRow
	users    []db.BulkUsersRow
	told     []db.BulkHistoriesRow // of the few that have something to tell
	policies []db.ListPoliciesRow
	roles    []db.Role
	// anew: the owners of this piece are all that the pieces after it may rely on.
	anew bool
}

func (tx *Tx) fetchBulk(pieces chan<- *bulkPiece, stopped *atomic.Bool) error {
	const doing = "read all tokens"
	policies, err := tx.q.ListPolicies(tx.ctx)
	if err != nil {
		return tx.explain(doing, err)
	}
	roles, err := tx.q.ListRoles(tx.ctx)
	if err != nil {
		return tx.explain(doing, err)
	}
	accounts, users := map[string]bool{}, map[string]bool{}
	now := tx.o.Now()
	for below := aboveAllIDs; below != "" && !stopped.Load(); {
		piece := &bulkPiece{policies: policies, roles: roles}
		policies, roles = nil, nil
		least, err := tx.q.BulkFloor(tx.ctx, db.BulkFloorParams{Below: below})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return tx.explain(doing, err)
		}
		// Without one, what is left is less than a full piece: least is empty.
		piece.rows, err = tx.q.BulkRecords(tx.ctx, db.BulkRecordsParams{Below: below, Least: least, Now: now.UnixMicro()})
		if err != nil {
			return tx.explain(doing, err)
		}
		if len(accounts) > maxBulkShared || len(users) > maxBulkShared {
			clear(accounts)
			clear(users)
			piece.anew = true
		}
		newAccount, newUser := false, false
		for i := range piece.rows {
			row := &piece.rows[i]
			newAccount = newAccount || !accounts[row.AccountID]
			newUser = newUser || row.UserID != nil && !users[*row.UserID]
		}
		if newAccount {
			piece.accounts, err = tx.q.BulkAccounts(tx.ctx, db.BulkAccountsParams{Below: below, Least: least})
			if err != nil {
				return tx.explain(doing, err)
			}
			for i := range piece.accounts {
				accounts[piece.accounts[i].ID] = true
			}
		}
		if newUser {
			piece.users, err = tx.q.BulkUsers(tx.ctx, db.BulkUsersParams{Below: below, Least: least})
			if err != nil {
				return tx.explain(doing, err)
			}
			for i := range piece.users {
				users[piece.users[i].ID] = true
			}
		}
		piece.told, err = tx.q.BulkHistories(tx.ctx, db.BulkHistoriesParams{Below: below, Least: least})
		if err != nil {
			return tx.explain(doing, err)
		}
		pieces <- piece
		below = least
	}
	return nil
}

// bulkDecoder makes records out of rows. All that several records have in common
// is there once: within one snapshot a name or an ID says which value it is.
type bulkDecoder struct {
	records  *Records
	accounts map[string]*token.Account
	users    map[string]*token.User
	policies map[string]*token.Policy
	roles    map[string]*token.Role
	allow    map[string]token.AllowList
	words    map[string][]string
	told     map[string]*db.BulkHistoriesRow // of the piece
}

// learn takes in what comes with a piece. What can not be read is left out, and
// with it the records that need it.
func (b *bulkDecoder) learn(piece *bulkPiece) {
	if piece.anew {
		clear(b.accounts)
		clear(b.users)
	}
	b.told = make(map[string]*db.BulkHistoriesRow, len(piece.told))
	for i := range piece.told {
		b.told[piece.told[i].TokenID] = &piece.told[i]
	}
	if piece.policies != nil || piece.roles != nil {
		b.policies, b.roles = map[string]*token.Policy{}, map[string]*token.Role{}
	}
	for _, row := range piece.policies {
		if p, err := b.records.policy(row.Name, row.Rules, row.ManagedBy, row.Version); err == nil {
			b.policies[row.Name] = p
		}
	}
	for _, row := range piece.roles {
		if role, err := b.records.role(row); err == nil {
			b.roles[row.Name] = role
		}
	}
	for i := range piece.accounts {
		row := &piece.accounts[i]
		if b.accounts[row.ID] == nil {
			account := loadAccount(db.Account{
				ID: row.ID, Name: row.Name, Policy: row.Policy, Disabled: row.Disabled, TokensOff: row.TokensOff,
				CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, Version: row.Version,
			})
			b.accounts[row.ID] = &account
		}
	}
	for i := range piece.users {
		row := &piece.users[i]
		if b.users[row.ID] != nil {
			continue
		}
		user, err := loadUser(db.User{
			ID: row.ID, AccountID: row.AccountID, Name: row.Name, Email: row.Email, Role: row.Role,
			BusinessUnits: row.BusinessUnits, Disabled: row.Disabled, TokensOff: row.TokensOff,
			CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, Version: row.Version,
		})
		if err == nil {
			b.users[row.ID] = &user
		}
	}
}

var errBulkDamaged = errors.New("a part of the record can not be read")

func (b *bulkDecoder) load(row *db.BulkRecordsRow) (*Record, error) {
	rec := &Record{KeyID: row.KeyID}
	if len(row.Lookup) != len(rec.Lookup) {
		return nil, errBulkDamaged
	}
	copy(rec.Lookup[:], row.Lookup)
	if rec.Account = b.accounts[row.AccountID]; rec.Account == nil {
		return nil, errBulkDamaged
	}
	if rec.Policy = b.policies[rec.Account.Policy]; rec.Policy == nil {
		return nil, errBulkDamaged
	}
	var userID token.ID
	if row.UserID != nil {
		if rec.User = b.users[*row.UserID]; rec.User == nil {
			return nil, errBulkDamaged
		}
		if rec.Role = b.roles[rec.User.Role]; rec.Role == nil {
			return nil, errBulkDamaged
		}
		userID = rec.User.ID
	}
	t := &rec.Token
	*t = plainToken(&db.Token{
		ID: row.ID, Name: row.Name,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, ExpiresAt: row.ExpiresAt, LifetimeFrom: row.LifetimeFrom,
		EndedAt: row.EndedAt, EndReason: row.EndReason, FreshOnly: row.FreshOnly, Version: row.Version,
	})
	// The owners' own IDs, so that all records share one copy of each.
	t.AccountID, t.UserID = rec.Account.ID, userID
	var errs [6]error
	if told := b.told[row.ID]; told != nil {
		rec.Outlook, errs[5] = loadOutlook(told)
	}
	t.Grant.Scopes = b.wordsOf(row.Scopes)
	errs[0] = t.Grant.Access.UnmarshalText([]byte(row.Access))
	t.AllowList, errs[1] = b.allowList(row.AllowList)
	errs[2] = t.Environment.UnmarshalText([]byte(row.Environment))
	errs[3] = t.State.UnmarshalText([]byte(row.State))
	rec.Secret, errs[4] = loadSecret(db.ListSecretsRow{
		ID: row.SecretID, Last4: row.Last4, Status: row.Status,
		CreatedAt: row.SecretCreatedAt, ExpiresAt: row.SecretExpiresAt, RetryUntil: row.RetryUntil, FirstUsed: row.FirstUsed,
	})
	rec.Secret.TokenID = t.ID
	return rec, errors.Join(errs[:]...)
}

func (b *bulkDecoder) wordsOf(text string) []string {
	if text == "" {
		return nil
	}
	words, ok := b.words[text]
	if !ok {
		if len(b.words) > maxBulkShared {
			clear(b.words)
		}
		words = loadWords(text)
		b.words[text] = words
	}
	return words
}

func (b *bulkDecoder) allowList(text string) (token.AllowList, error) {
	if text == "" {
		return token.AllowList{}, nil
	}
	if list, ok := b.allow[text]; ok {
		return list, nil
	}
	list, err := loadAllowList(text)
	if err != nil {
		return list, err
	}
	// Some lists are long.
	if len(b.allow) > maxBulkShared/10 {
		clear(b.allow)
	}
	b.allow[text] = list
	return list, nil
}
