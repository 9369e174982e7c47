package token

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of business units.
const (
	MaxUnits     = 100
	maxUnitBytes = 64
)

// CheckUnits sorts the names of business units, drops repetitions and judges
// them. They travel to the upstream in one header, so that a name holds no space,
// nor what headers use as punctuation. The error is a *FieldError that says which
// of them is wrong.
func CheckUnits(units []string) ([]string, error) {
	const field = "business_units"
	if len(units) > MaxUnits {
		return nil, &FieldError{Field: field, Problem: fmt.Sprintf("at most %d", MaxUnits)}
	}
	for i, unit := range units {
		ok := unit != "" && len(unit) <= maxUnitBytes
		for j := 0; ok && j < len(unit); j++ {
			ok = unit[j] > ' ' && unit[j] <= '~' && strings.IndexByte(`",;\`, unit[j]) < 0
		}
		if !ok {
			return nil, &FieldError{
				Field:   fmt.Sprintf("%s[%d]", field, i),
				Problem: fmt.Sprintf(`must be 1 to %d visible ASCII characters other than '"', ',', ';' and '\', without spaces`, maxUnitBytes),
			}
		}
	}
	if len(units) == 0 {
		return nil, nil
	}
	return slices.Compact(slices.Sorted(slices.Values(units))), nil
}
