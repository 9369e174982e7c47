package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

func init() {
	caddy.RegisterModule(new(App))
}

const (
	defaultCacheSize = 512 << 20
	defaultStaleFor  = 10 * time.Minute

	// startLimit bounds what the start of the app may wait for the store.
	startLimit = 30 * time.Second
	// stopLimit bounds each wait while a configuration goes.
	stopLimit = 5 * time.Second
)

// App is what all gates of a configuration share: the store of tokens, the
// master keys, and the scopes, roles and policies that the configuration
// declares. A gate without an app configuration gets one with all the defaults,
// which keeps its tokens in an SQLite database in Caddy's data directory.
type App struct {
	// Where the tokens live. Default: `{"driver": "sqlite"}`.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=sallyport.stores inline_key=driver"`

	// Where to find the master keys: `{file./path/to/keys}` or `{env.NAME}`, and
	// there lines `ID:base64 of 32 bytes`, of which the first is the primary key
	// of a new store. A literal value is refused, since Caddy shows and saves
	// its configuration. Default for SQLite: a file beside the database, named
	// after it with `.key` added, which the first start makes.
	MasterKey string `json:"master_key,omitempty"`

	// SecretPrefixes start the secrets: the first is used for new ones, all are
	// accepted. Default: ["sp"].
	SecretPrefixes []string `json:"secret_prefixes,omitempty"`

	// CacheSize is the memory for records of tokens, about, in bytes. Another
	// value makes a reload start with an empty cache. Default: 536870912 (512 MiB).
	CacheSize int64 `json:"cache_size,omitempty"`

	// StaleIfUnavailable is how long known tokens go on working while the store
	// can not be reached; 0 means not at all. Another value makes a reload start
	// with an empty cache. Default: 10m.
	StaleIfUnavailable *caddy.Duration `json:"stale_if_unavailable,omitempty"`

	// Journal says when the first use of a token is safe before its request goes on:
	// `fast`, when the operating system has it, so that a killed process loses
	// nothing; or `sync`, when the disk has it, so that a power cut loses nothing
	// either. Default: `fast`.
	Journal string `json:"journal,omitempty"`

	// JournalDir is the directory in which activity is kept until it is in the
	// store. It belongs on a local disk that outlives the process, and to one
	// gateway. Default: beside the SQLite database, with `.journal` added to its
	// name; for Postgres, below Caddy's data directory.
	JournalDir string `json:"journal_dir,omitempty"`

	// Mail is the relay that takes mail about tokens. Default: none.
	Mail *Mail `json:"mail,omitempty"`

	// Webhooks declares webhooks: where events are sent to. Default: none besides
	// those that were created over the API.
	Webhooks []*Webhook `json:"webhooks,omitempty"`

	// WebhookAllow names the ranges that webhooks may be in although they are not
	// public, such as 10.0.0.0/8. Default: none, but for webhooks that are declared
	// here and that name this machine.
	WebhookAllow []string `json:"webhook_allow,omitempty"`

	// Scopes declares scopes: each name with `read` or `write`, which says what
	// the scope lets happen. The scopes `read` and `write` themselves are built
	// in. Default: none.
	Scopes map[string]token.Nature `json:"scopes,omitempty"`

	// Roles declares roles of users by name. A user's tokens never do more than
	// the role allows. Default: none besides the built-in ones.
	Roles map[string]*Role `json:"roles,omitempty"`

	// Policies declares policies of accounts by name. One named `default` rules
	// every account that names no other. Default: none besides the built-in one.
	Policies map[string]*Policy `json:"policies,omitempty"`

	ctx          caddy.Context
	logger       *zap.Logger
	declarations authority.Declarations
	driver       StoreDriver
	keys         keySource
	mailer       *notify.Mailer // nil: there is no mail
	allowed      []netip.Prefix // for webhooks, besides public addresses

	// gates is how many gates the configuration has, known once all apps are
	// provisioned, and made is when that began.
	gates   atomic.Int32
	made    time.Time
	watched *activity // nil until started
	// declared: what it declares may be in the store.
	declared bool

	poolKey runtimeKey
	runtime *runtime // nil until acquired from the pool

	// serving is set by Start: what needs the open store and this configuration.
	serving atomic.Pointer[serving]
}

// serving is an open store under one configuration. The store is shared with
// the configurations before and after; the rest is this one's own, so that a
// configuration that fails to load has changed nothing for the one that runs.
type serving struct {
	steward   atomic.Pointer[steward] // looks after the tokens
	authority *authority.Authority
	api       http.Handler
	health    func() api.Health
	feedAge   func() time.Duration
	// clockOffset is how far this machine's clock is ahead of the store's.
	clockOffset func() time.Duration
}

// Role is a ceiling for the tokens of the users who have it.
type Role struct {
	// How much the role allows: read_only, read_write or custom.
	Access token.Access `json:"access"`
	// The scopes that a custom role allows. Default: none.
	Scopes []string `json:"scopes,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "sallyport",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and takes part in the state that outlives
// it. It opens and writes nothing: Caddy also provisions configurations that
// are only validated.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger, a.made = ctx, ctx.Logger(), time.Now()
	if err := checkAdminEndpoint(ctx); err != nil {
		return err
	}
	if err := a.configure(ctx); err != nil {
		return err
	}
	if err := (collector{serving: a.serving.Load}).register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	a.poolKey = runtimeKey{
		store:    a.driver.Identity(),
		keys:     fingerprint(a.keys.ring),
		cache:    a.cacheSize(),
		staleFor: a.staleFor(),
	}
	var err error
	a.runtime, err = acquireRuntime(a.poolKey)
	return err
}

// configure checks the configuration and reads what it refers to. The commands
// that work on the store itself need no more than that.
func (a *App) configure(ctx caddy.Context) error {
	if err := a.settlePrefixes(); err != nil {
		return err
	}
	if a.CacheSize < 0 {
		return errors.New("cache_size is negative: leave it out for 512MiB")
	}
	if a.StaleIfUnavailable != nil && *a.StaleIfUnavailable < 0 {
		return errors.New("stale_if_unavailable is negative: leave it out for 10m, or write 0 for not at all")
	}
	if a.Journal != "" && a.Journal != journalFast && a.Journal != journalSync {
		return errors.New("journal: must be fast or sync")
	}
	var err error
	if a.Mail != nil {
		if a.mailer, err = a.Mail.mailer(); err != nil {
			return err
		}
	}
	if a.JournalDir, err = caddy.NewReplacer().ReplaceOrErr(a.JournalDir, true, true); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if a.declarations, err = a.declare(); err != nil {
		return err
	}
	if a.declarations.Webhooks, err = a.declaredWebhooks(); err != nil {
		return err
	}
	if a.allowed, err = a.webhookRanges(); err != nil {
		return err
	}
	if a.driver, err = a.loadDriver(ctx); err != nil {
		return err
	}
	a.keys, err = readKeySource(a.MasterKey, a.driver, rand.Reader)
	return err
}

func (a *App) settlePrefixes() error {
	if len(a.SecretPrefixes) == 0 {
		a.SecretPrefixes = []string{token.DefaultPrefix}
	}
	for i, prefix := range a.SecretPrefixes {
		if err := token.CheckPrefix(prefix); err != nil {
			return fmt.Errorf("secret_prefix: %w", err)
		}
		if slices.Contains(a.SecretPrefixes[:i], prefix) {
			return fmt.Errorf("secret_prefix: %q stands twice", prefix)
		}
	}
	return nil
}

func (a *App) cacheSize() int64 {
	if a.CacheSize == 0 {
		return defaultCacheSize
	}
	return a.CacheSize
}

func (a *App) staleFor() time.Duration {
	if a.StaleIfUnavailable == nil {
		return defaultStaleFor
	}
	return time.Duration(*a.StaleIfUnavailable)
}

// The modes of the journal.
const (
	journalFast = "fast"
	journalSync = "sync"
)

func (a *App) journalOptions() journalOptions {
	o := journalOptions{dir: a.JournalDir, sync: a.Journal == journalSync}
	if o.dir == "" {
		o.dir, o.several = a.driver.JournalDir()
	}
	return o
}

// mailRate is how many messages go out in a minute; 0: as notify says.
func (a *App) mailRate() int {
	if a.Mail == nil {
		return 0
	}
	return a.Mail.PerMinute
}

func (a *App) loadDriver(ctx caddy.Context) (StoreDriver, error) {
	if a.StoreRaw == nil {
		a.StoreRaw = caddyconfig.JSONModuleObject(new(SQLite), "driver", "sqlite", nil)
	}
	module, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	driver, ok := module.(StoreDriver)
	if !ok {
		return nil, fmt.Errorf("store: the module %T is no store driver", module)
	}
	return driver, nil
}

// knownScope finds a scope that is built in or that the configuration declares.
func (a *App) knownScope(name string) (token.Scope, bool) {
	switch name {
	case token.ReadScope.Name:
		return token.ReadScope, true
	case token.WriteScope.Name:
		return token.WriteScope, true
	}
	nature, ok := a.Scopes[name]
	return token.Scope{Name: name, Nature: nature}, ok
}

// declare checks what the configuration declares, in the order of names, so that
// of several mistakes the same one is always told.
func (a *App) declare() (authority.Declarations, error) {
	var d authority.Declarations
	for _, name := range slices.Sorted(maps.Keys(a.Scopes)) {
		if err := checkDeclaredScope(name, a.Scopes[name]); err != nil {
			return d, err
		}
		d.Scopes = append(d.Scopes, token.Scope{Name: name, Nature: a.Scopes[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(a.Roles)) {
		role, err := a.role(name)
		if err != nil {
			return d, err
		}
		d.Roles = append(d.Roles, role)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Policies)) {
		policy, err := a.policy(name)
		if err != nil {
			return d, err
		}
		d.Policies = append(d.Policies, policy)
	}
	return d, nil
}

func checkDeclaredScope(name string, nature token.Nature) error {
	if err := token.CheckScopeName(name); err != nil {
		return fmt.Errorf("scopes: %w", err)
	}
	if name == token.ReadScope.Name || name == token.WriteScope.Name {
		return fmt.Errorf("scopes: %s is built in: choose another name", name)
	}
	if nature != token.Read && nature != token.Write {
		return fmt.Errorf("scopes: %s needs a nature, read or write", name)
	}
	return nil
}

func (a *App) role(name string) (token.Role, error) {
	if err := checkDeclaredName("role", name); err != nil {
		return token.Role{}, err
	}
	role := a.Roles[name]
	if role == nil || role.Access == 0 {
		return token.Role{}, fmt.Errorf("role %s: needs access: read_only, read_write or custom", name)
	}
	ceiling, err := token.NewGrant(role.Access, role.Scopes, a.knownScope)
	if err != nil {
		return token.Role{}, fmt.Errorf("role %s: %w", name, err)
	}
	return token.Role{Name: name, Ceiling: ceiling}, nil
}

func (a *App) policy(name string) (token.Policy, error) {
	if err := checkDeclaredName("policy", name); err != nil {
		return token.Policy{}, err
	}
	policy := a.Policies[name]
	if policy == nil {
		policy = new(Policy)
	}
	rules, err := policy.rules(name)
	if err != nil {
		return token.Policy{}, fmt.Errorf("policy %s: %w", name, err)
	}
	return rules, nil
}

// checkDeclaredName keeps names of roles and policies fit for command lines and URLs.
func checkDeclaredName(what, name string) error {
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z'
		inner := '0' <= c && c <= '9' || c == '_' || c == '-'
		if !letter && (i == 0 || !inner) {
			return fmt.Errorf("the name of a %s starts with a-z and goes on with a-z, 0-9, '_' or '-'", what)
		}
	}
	if name == "" || len(name) > 64 {
		return fmt.Errorf("the name of a %s has 1 to 64 characters", what)
	}
	return nil
}

// Start opens the store, or takes over the one that the configuration before
// has open, and writes what this configuration declares.
func (a *App) Start() error {
	if err := a.checkProxies(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	open, err := a.runtime.start(ctx, a.driver, a.keys, a.journalOptions(), cached.Options{MaxBytes: a.cacheSize(), StaleFor: a.staleFor()})
	if err != nil {
		return err
	}
	steward := newSteward(open, a.SecretPrefixes, a.mailer, a.teller(), a.mailRate(), a.logger)
	steward.webhooks.Allow, steward.declared = a.allowed, a.declarations
	s, err := a.serve(open, steward)
	if err != nil {
		return err
	}
	a.declared = true
	if err := s.authority.Declare(ctx, bySystem, a.declarations); err != nil {
		return fmt.Errorf("write what the configuration declares: %w", err)
	}
	// What was just declared says how finely use is recorded, from the first request on.
	if err := open.activity.refresh(ctx, open.inner); err != nil {
		return fmt.Errorf("read how finely use is to be recorded: %w", err)
	}
	if a.keys.warning != "" {
		a.logger.Warn(a.keys.warning)
	}
	a.warnOfRoutes()
	open.activity.tell(a.logActivity)
	if err := open.activity.guard(a, a.gates.Load() > 0, a.made); err != nil {
		return err
	}
	a.watched = open.activity
	open.retired.serve(s.authority)
	steward.start()
	s.steward.Store(steward)
	a.serving.Store(s)
	a.runtime.publish(open)
	return nil
}

// checkProxies looks at the whole configuration, which is known once all apps are
// provisioned.
func (a *App) checkProxies() error {
	app, err := a.httpApp()
	if err != nil || app == nil {
		return err
	}
	return checkTrustedProxies(app)
}

// httpApp is the app that serves this configuration; nil: none does.
func (a *App) httpApp() (*caddyhttp.App, error) {
	module, err := a.ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	app, _ := module.(*caddyhttp.App)
	return app, nil
}

// bySystem stands in the audit log for what a configuration declares.
var bySystem = authority.By{Actor: tokenstore.Actor{Kind: tokenstore.SystemActor, Name: "configuration", Verified: true}}

// serve builds what this configuration makes of the open store.
func (a *App) serve(open *opened, steward *steward) (*serving, error) {
	authority := newAuthority(open.management(), open.ring, a.SecretPrefixes, a.teller())
	authority.Webhooks = steward.webhooks
	s := new(serving)
	health := func() api.Health {
		checks := open.checks()
		if k := s.steward.Load(); k != nil {
			checks = append(checks, k.check(), k.configurationCheck())
		}
		return healthOf(open.store.Stats(), a.staleFor(), checks...)
	}
	handler, err := newAdminAPI(authority, steward.lifecycle, func(context.Context) api.Health { return health() }, func(_ context.Context, f api.Failure) {
		a.logger.Error("the management API failed",
			zap.String("request_id", f.RequestID), zap.String("method", f.Method),
			zap.String("route", f.Route), zap.Error(f.Err))
	})
	if err != nil {
		return nil, err
	}
	s.authority, s.api, s.health, s.feedAge, s.clockOffset = authority, handler, health, open.store.Age, open.node.skew
	return s, nil
}

// newAuthority makes the choke point of changes. A teller that is nil tells nobody of
// them, which is right only where nothing changes that anybody is told of.
func newAuthority(store tokenstore.Store, ring *tokenstore.Ring, prefixes []string, teller *notify.Notifier) *authority.Authority {
	return &authority.Authority{
		Store:    store,
		Ring:     ring,
		Prefixes: prefixes,
		Now:      time.Now,
		Random:   rand.Reader,
		NewID:    newID,
		Teller:   teller,
	}
}

// teller has people told as this configuration says. Without a relay no mail is
// written, which nothing would ever send.
func (a *App) teller() *notify.Notifier {
	return &notify.Notifier{NewID: newID, Mail: a.Mail != nil}
}

// Stop ends what runs for this configuration alone. All else ends with the last
// configuration that uses it.
func (a *App) Stop() error {
	if s := a.serving.Load(); s != nil {
		if k := s.steward.Load(); k != nil {
			k.close()
		}
	}
	return nil
}

// Cleanup gives back what Provision took. Caddy calls it for configurations that
// ended, and for those that never got to run.
func (a *App) Cleanup() error {
	if a.runtime == nil {
		return nil
	}
	a.restoreDeclarations()
	a.runtime = nil
	var err error
	if a.watched != nil {
		// Caddy has stopped accepting connections for it. Requests that run may go on for
		// a while, streams above all, and are not covered by this.
		err = a.watched.unguard(a, time.Now())
	}
	return errors.Join(err, releaseRuntime(a.poolKey))
}

// restoreDeclarations has the configuration that is active write its roles,
// scopes, policies and webhooks once more. That changes nothing after a reload that
// worked, since it wrote them last. After one that failed later than our Start
// (another app could not start), the store still holds those of a configuration
// that nobody runs.
func (a *App) restoreDeclarations() {
	if !a.declared {
		return
	}
	active, err := activeApp()
	if err != nil || active == a {
		return
	}
	s := active.serving.Load()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if open := active.runtime.open.Load(); open != nil {
		open.retired.serve(s.authority)
		open.activity.tell(active.logActivity)
	}
	if err := s.authority.Declare(ctx, bySystem, active.declarations); err != nil {
		a.logger.Error("could not write the active configuration's roles, scopes, policies and webhooks again after a configuration failed; reload it with --force", zap.Error(err))
	}
}

// activeApp is the app of the configuration that runs. It is looked up for each
// use: after a reload that failed, whatever was handed an app before may hold
// one that has ended.
func activeApp() (*App, error) {
	module, err := caddy.ActiveContext().AppIfConfigured("sallyport")
	if err != nil {
		return nil, err
	}
	app, ok := module.(*App)
	if !ok {
		return nil, fmt.Errorf("the app named sallyport is a %T", module)
	}
	return app, nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
