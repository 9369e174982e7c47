package cached

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// owners keeps one copy of each account, user, role and policy for all records
// that hold it: a store hands out new ones with every record.
type owners struct {
	accounts shared[token.Account]
	users    shared[token.User]
	roles    shared[token.Role]
	policies shared[token.Policy]
	words    words
	lists    lists
}

// share replaces what a record has in common with others by the common copy. It
// gives the bytes of what turned out to be new.
func (o *owners) share(r *tokenstore.Record) (cost int64) {
	var fresh int64
	r.Account, fresh = o.accounts.one(string(r.Account.ID), r.Account.Version, r.Account)
	cost += fresh
	r.Policy, fresh = o.policies.one(r.Policy.Name, r.Policy.Version, r.Policy)
	cost += fresh
	if r.User != nil {
		r.User, fresh = o.users.one(string(r.User.ID), r.User.Version, r.User)
		cost += fresh
		r.Role, fresh = o.roles.one(r.Role.Name, r.Role.Version, r.Role)
		cost += fresh
	}
	return cost + o.shareTexts(r)
}

// shareTexts makes equal texts that came in several copies one, once the owners
// are the common ones. It gives the bytes of what turned out to be new.
func (o *owners) shareTexts(r *tokenstore.Record) (cost int64) {
	if r.Secret.TokenID == r.Token.ID {
		r.Secret.TokenID = r.Token.ID
	}
	if r.Token.AccountID == r.Account.ID {
		r.Token.AccountID = r.Account.ID
	}
	if r.User != nil && r.Token.UserID == r.User.ID {
		r.Token.UserID = r.User.ID
	}
	r.KeyID = o.words.one(r.KeyID)
	r.Token.Grant.Scopes, cost = o.lists.one(&o.words, r.Token.Grant.Scopes)
	return cost
}

// shared holds values by ID and version for as long as somebody else does.
type shared[T any] struct {
	mu sync.Mutex
	m  map[sharedKey]weak.Pointer[T]
}

type sharedKey struct {
	id      string
	version int64
}

// sharedCost is what a shared value takes besides itself: texts, and its place here.
const sharedCost = 256

// one gives the copy to hold instead of v. The contents are compared too: a store
// that was restored gives the same version to another content.
func (s *shared[T]) one(id string, version int64, v *T) (common *T, cost int64) {
	key := sharedKey{id, version}
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.m[key].Value(); held != nil && reflect.DeepEqual(held, v) {
		return held, 0
	}
	common = new(T)
	*common = *v
	if s.m == nil {
		s.m = make(map[sharedKey]weak.Pointer[T])
	}
	s.m[key] = weak.Make(common)
	runtime.AddCleanup(common, s.drop, key)
	return common, allocated(int(reflect.TypeFor[T]().Size())) + sharedCost
}

func (s *shared[T]) drop(key sharedKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[key].Value() == nil {
		delete(s.m, key)
	}
}

func (s *shared[T]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

// words keeps one copy of texts that operators choose, such as names of scopes.
// Past a limit that no configuration reaches it keeps no more of them.
type words struct {
	mu sync.Mutex
	m  map[string]string
}

const maxWords = 4096

func (w *words) one(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if held, ok := w.m[text]; ok {
		return held
	}
	if w.m == nil {
		w.m = make(map[string]string)
	}
	if len(w.m) < maxWords {
		// A copy, lest a short name keep the row that it came in.
		text = strings.Clone(text)
		w.m[text] = text
	}
	return text
}

// lists keeps one copy of lists of words, such as the scopes of tokens: many have
// the same. Past a limit it keeps no more of them.
type lists struct {
	mu sync.Mutex
	m  map[string][]string
}

const maxLists = 4096

// one gives the copy to hold instead of a list, and the bytes of a new one.
func (l *lists) one(w *words, list []string) (common []string, cost int64) {
	if len(list) == 0 {
		return nil, 0
	}
	// No word has a NUL: each list has its own key.
	key := make([]byte, 0, 256)
	for _, word := range list {
		key = append(append(key, word...), 0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, ok := l.m[string(key)]; ok {
		return held, 0
	}
	common = slices.Clip(slices.Clone(list))
	for i := range common {
		common[i] = w.one(common[i])
	}
	cost = allocated(16 * len(common))
	if l.m == nil {
		l.m = make(map[string][]string)
	}
	if len(l.m) < maxLists {
		l.m[string(key)] = common
		cost += allocated(len(key))
	}
	return common, cost
}
