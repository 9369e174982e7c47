package caddymodule

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/sallyport/sallyport/token"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("sallyport", parseGlobalOption)
}

// parseGlobalOption reads the global option as the app's configuration.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // "sallyport"
	if existing != nil {
		return nil, d.Err("the global option sallyport is set twice: merge the two blocks")
	}
	app := new(App)
	if err := app.unmarshalOption(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "sallyport", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option. Every line is optional:
//
//	sallyport {
//	    store                sqlite [PATH]
//	    master_key           {file./path/to/keys}|{env.NAME}
//	    secret_prefix        NEW [OLD...]
//	    cache_size           SIZE
//	    stale_if_unavailable DURATION
//	    webhook URL {
//	        events EVENT...
//	        secret {file./path/to/secret}|{env.NAME}
//	    }
//	    webhook_allow        RANGE...
//	    scopes {
//	        NAME [read|write]
//	    }
//	    role NAME {
//	        access read_only|read_write|custom
//	        scopes NAME...
//	    }
//	    policy NAME {
//	        preset                  default|mercury|own|rapyd|staffbase|taxjar
//	        max_secrets_per_account N|none
//	        max_secrets_per_user    N|none
//	        max_lifetime            DURATION|none
//	        delete_expired_after    DURATION
//	        expiry_warnings         DURATION...|none
//	        delete_unused           DURATION|never
//	        downgrade_unused        DURATION|never
//	        notice                  DURATION
//	        restore_window          DURATION
//	        downgrade_undo          on|off
//	        rotation_modes          MODE...
//	        grace_default           DURATION
//	        grace_min               DURATION
//	        grace_max               DURATION
//	        editable                FIELD...|none
//	        allow                   VERB ROLE...|VERB none
//	        step_up                 VERB...|none
//	        confirm                 VERB...|none
//	        notify                  EVENT CLASS...|EVENT none
//	        view                    ROLE...|none
//	        require_ip_allowlist    never|write|always
//	        revoke_on_retired_use   on|off
//	    }
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return a.unmarshalOption(d)
}

func (a *App) unmarshalOption(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Err("the global option sallyport takes a block and no arguments")
	}
	p := optionParser{app: a, Dispenser: d}
	lines := map[string]func() error{
		"store":                p.store,
		"master_key":           p.masterKey,
		"secret_prefix":        p.secretPrefix,
		"cache_size":           p.cacheSize,
		"journal":              p.journal,
		"mail":                 p.mail,
		"webhook":              p.webhook,
		"webhook_allow":        p.webhookAllow,
		"stale_if_unavailable": p.staleIfUnavailable,
		"scopes":               p.scopes,
		"role":                 p.role,
		"policy":               p.policy,
	}
	if err := p.block("sallyport", lines, "role", "policy", "webhook"); err != nil {
		return err
	}
	return p.checkRoles()
}

// optionParser reads the lines of the global option.
type optionParser struct {
	*caddyfile.Dispenser
	app *App
	// roleAt remembers where a role stands, since the scopes that it names may
	// be declared further down.
	roleAt []rolePosition
}

type rolePosition struct {
	name, file string
	line       int
}

// block reads the lines of a block. A line that is not known stops the start: one
// that was misspelt would otherwise switch off what it was meant to switch on.
func (p *optionParser) block(where string, lines map[string]func() error, repeatable ...string) error {
	nesting := p.Nesting()
	return p.lines(func() bool { return p.NextBlock(nesting) }, where, lines, repeatable...)
}

// lines reads lines as long as there is a next one.
func (p *optionParser) lines(next func() bool, where string, known map[string]func() error, repeatable ...string) error {
	seen := map[string]bool{}
	for next() {
		name := p.Val()
		line, ok := known[name]
		if !ok {
			return p.unknownLine(name, where, known)
		}
		if seen[name] && !slices.Contains(repeatable, name) {
			return p.Errf("%s is set twice in %s", name, where)
		}
		seen[name] = true
		if err := line(); err != nil {
			return err
		}
	}
	return nil
}

func (p *optionParser) store() error {
	if !p.NextArg() {
		return p.ArgErr()
	}
	driver := p.Val()
	if _, err := caddy.GetModule("sallyport.stores." + driver); err != nil {
		return p.Errf("unknown store driver %q: this build has %q", driver, storeDrivers())
	}
	module, err := caddyfile.UnmarshalModule(p.Dispenser, "sallyport.stores."+driver)
	if err != nil {
		return err
	}
	p.app.StoreRaw = caddyconfig.JSONModuleObject(module, "driver", driver, nil)
	return nil
}

func storeDrivers() []string {
	var drivers []string
	for _, module := range caddy.GetModules("sallyport.stores") {
		drivers = append(drivers, module.ID.Name())
	}
	return drivers
}

func (p *optionParser) masterKey() error {
	// No message here quotes a token: it may be the key itself.
	args := p.RemainingArgs()
	if len(args) != 1 {
		return p.Err("master_key takes one argument: {file./path/to/keys} or {env.NAME}")
	}
	p.app.MasterKey = args[0]
	return p.wrap(checkKeyReference(args[0]))
}

func (p *optionParser) secretPrefix() error {
	prefixes := p.RemainingArgs()
	if len(prefixes) == 0 {
		return p.ArgErr()
	}
	for i, prefix := range prefixes {
		if err := token.CheckPrefix(prefix); err != nil {
			return p.WrapErr(err)
		}
		if slices.Contains(prefixes[:i], prefix) {
			return p.Errf("secret_prefix names %q twice", prefix)
		}
	}
	p.app.SecretPrefixes = prefixes
	return nil
}

func (p *optionParser) cacheSize() error {
	var value string
	if err := p.oneArg(&value); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(value)
	if err != nil || size == 0 || size > 1<<50 {
		return p.Err("cache_size takes a size such as 512MiB or 2GiB")
	}
	p.app.CacheSize = int64(size)
	return nil
}

// journal reads `journal fast|sync [DIR]`.
func (p *optionParser) journal() error {
	if !p.NextArg() {
		return p.Err("journal takes fast or sync, and after that, if it is not to be beside the store, a directory")
	}
	if p.app.Journal = p.Val(); p.app.Journal != journalFast && p.app.Journal != journalSync {
		return p.Err("journal takes fast or sync first")
	}
	if p.NextArg() {
		p.app.JournalDir = p.Val()
	}
	if p.NextArg() {
		return p.ArgErr()
	}
	return nil
}

func (p *optionParser) staleIfUnavailable() error {
	duration, err := p.duration()
	p.app.StaleIfUnavailable = &duration
	return err
}

func (p *optionParser) scopes() error {
	if p.NextArg() {
		return p.ArgErr()
	}
	if p.app.Scopes == nil {
		p.app.Scopes = map[string]token.Nature{}
	}
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		name := p.Val()
		nature := token.Write
		switch args := p.RemainingArgs(); {
		case len(args) > 1:
			return p.ArgErr()
		case len(args) == 1:
			if err := nature.UnmarshalText([]byte(args[0])); err != nil {
				return p.WrapErr(err)
			}
		}
		if err := checkDeclaredScope(name, nature); err != nil {
			return p.WrapErr(err)
		}
		if _, ok := p.app.Scopes[name]; ok {
			return p.Errf("scopes declares %q twice", name)
		}
		p.app.Scopes[name] = nature
	}
	return nil
}

func (p *optionParser) role() error {
	var name string
	if err := p.oneArg(&name); err != nil {
		return err
	}
	if err := checkDeclaredName("role", name); err != nil {
		return p.WrapErr(err)
	}
	if _, ok := p.app.Roles[name]; ok {
		return p.Errf("role %s is declared twice", name)
	}
	p.roleAt = append(p.roleAt, rolePosition{name: name, file: p.File(), line: p.Line()})
	role := new(Role)
	err := p.block("role "+name, map[string]func() error{
		"access": func() error {
			var value string
			if err := p.oneArg(&value); err != nil {
				return err
			}
			return p.wrap(role.Access.UnmarshalText([]byte(value)))
		},
		"scopes": func() error {
			role.Scopes = p.RemainingArgs()
			if len(role.Scopes) == 0 {
				return p.ArgErr()
			}
			return nil
		},
	})
	if p.app.Roles == nil {
		p.app.Roles = map[string]*Role{}
	}
	p.app.Roles[name] = role
	return err
}

func (p *optionParser) checkRoles() error {
	for _, at := range p.roleAt {
		if _, err := p.app.role(at.name); err != nil {
			return fmt.Errorf("%w, at %s:%d", err, at.file, at.line)
		}
	}
	return nil
}

// oneArg reads exactly one argument.
func (p *optionParser) oneArg(value *string) error {
	if !p.Args(value) || p.NextArg() {
		return p.ArgErr()
	}
	return nil
}

func (p *optionParser) duration() (caddy.Duration, error) {
	name := p.Val()
	var value string
	if err := p.oneArg(&value); err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(value)
	if err != nil || duration < 0 {
		return 0, p.Errf("%s takes a duration such as 90s, 10m, 24h or 7d", name)
	}
	return caddy.Duration(duration), nil
}

func (p *optionParser) wrap(err error) error {
	if err == nil {
		return nil
	}
	return p.WrapErr(err)
}

// listOf reads arguments that are all among the allowed ones. "none" alone, where
// it may stand, is the empty list.
func listOf[T ~string](p *optionParser, target *[]T, allowed []T, noneAllowed bool) error {
	name := p.Val()
	args := p.RemainingArgs()
	if len(args) == 0 {
		return p.ArgErr()
	}
	list := make([]T, 0, len(args))
	if !noneAllowed || len(args) > 1 || args[0] != "none" {
		for _, arg := range args {
			list = append(list, T(arg))
		}
	}
	if err := checkList(name, list, allowed); err != nil {
		return p.WrapErr(err)
	}
	*target = list
	return nil
}

var _ caddyfile.Unmarshaler = (*App)(nil)
