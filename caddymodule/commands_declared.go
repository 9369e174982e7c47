package caddymodule

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

func roleCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the roles", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		roles, err := c.Roles(ctx)
		if err != nil {
			return err
		}
		return printList(in, roles, func(r *api.Role) string { return r.Name },
			[]string{"NAME", "ACCESS", "SCOPES", "OWNED BY"},
			func(r *api.Role) []string {
				return []string{r.Name, r.Access.String(), showList(r.Scopes, "-"), owner(r.ManagedByConfig)}
			})
	})
	roleChanges(in, parent)
}

func owner(managedByConfig bool) string {
	if managedByConfig {
		return "configuration"
	}
	return "store"
}

func (in *invocation) printPolicy(p *api.Policy) error {
	fields := [][2]string{
		{"name", p.Name},
		{"max secrets per account", showLimit(p.MaxSecretsPerAccount)},
		{"max secrets per user", showLimit(p.MaxSecretsPerUser)},
		{"max lifetime", showSpanOr(p.MaxLifetimeSeconds, "none")},
		{"delete expired after", showSpan(p.DeleteExpiredAfterSeconds)},
		{"expiry warnings", showSpans(p.ExpiryWarningsSeconds)},
		{"delete unused", showSpanOr(p.DeleteUnusedSeconds, "never")},
		{"downgrade unused", showSpanOr(p.DowngradeUnusedSeconds, "never")},
		{"notice", showSpan(p.NoticeSeconds)},
		{"restore window", showSpan(p.RestoreWindowSeconds)},
		{"downgrade undo", showOn(p.DowngradeUndo)},
		{"rotation modes", join(p.RotationModes)},
		{"grace default", showSpan(p.GraceDefaultSeconds)},
		{"grace min", showSpan(p.GraceMinSeconds)},
		{"grace max", showSpan(p.GraceMaxSeconds)},
		{"editable", join(p.Editable)},
		{"step up", join(p.StepUp)},
		{"confirm", join(p.Confirm)},
		{"view", join(p.View)},
		{"ip allow-list", string(p.RequireIPAllowlist)},
		{"revoke on retired use", showOn(p.RevokeOnRetiredUse)},
		{"owned by", owner(p.ManagedByConfig)},
	}
	// In the order of the documents, and then whatever a newer gateway knows.
	for _, verb := range keysInOrder(p.Allow, token.PolicyVerbs()) {
		fields = append(fields, [2]string{"allow " + verb, join(p.Allow[verb])})
	}
	for _, event := range keysInOrder(p.Notify, token.Events()) {
		fields = append(fields, [2]string{"notify " + string(event), join(p.Notify[event])})
	}
	return in.printOne(p, p.Name, fields)
}

// keysInOrder lists the keys of a map, those that are known first.
func keysInOrder[K ~string, V any](m map[K]V, known []K) []K {
	var keys []K
	for _, key := range known {
		if _, ok := m[key]; ok {
			keys = append(keys, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func showLimit(n *int) string {
	if n == nil {
		return "none"
	}
	return strconv.Itoa(*n)
}

func showOn(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// showSpan writes a time as a Caddyfile would: 45d, 1h30m0s.
func showSpan(seconds int64) string {
	const day = 24 * 60 * 60
	if seconds > 0 && seconds%day == 0 {
		return strconv.FormatInt(seconds/day, 10) + "d"
	}
	return showSeconds(seconds)
}

func showSpanOr(seconds *int64, absent string) string {
	if seconds == nil {
		return absent
	}
	return showSpan(*seconds)
}

func showSpans(list []int64) string {
	texts := make([]string, len(list))
	for i, seconds := range list {
		texts[i] = showSpan(seconds)
	}
	return showList(texts, "-")
}

func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = string(item)
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, " ")
}

func scopeCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	in.client(parent, "list", "Lists the scopes, the built-in ones included", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		scopes, err := c.Scopes(ctx)
		if err != nil {
			return err
		}
		return printList(in, scopes, func(s *api.Scope) string { return s.Name },
			[]string{"NAME", "NATURE", "OWNED BY"},
			func(s *api.Scope) []string {
				by := owner(s.ManagedByConfig)
				if s.BuiltIn {
					by = "built in"
				}
				return []string{s.Name, s.Nature.String(), by}
			})
	})
}
