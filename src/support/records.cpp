#include "support/records.hpp"

#include <cstdio>

namespace tinyphys {

std::string with_commas(std::int64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    text += digits[i];
    const std::size_t left = digits.size() - 1 - i;
    if (left > 0 && left % 3 == 0 && digits[i] != '-') text += ',';
  }
  return text;
}

std::string duration_text(double s) {
  struct Unit {
    double below, per_second;
    const char* name;
  };
  constexpr Unit kUnits[] = {{1e-3, 1e6, "us"},
                             {1, 1e3, "ms"},
                             {120, 1, "s"},
                             {2 * 3600.0, 1 / 60.0, "min"},
                             {2 * 86400.0, 1 / 3600.0, "h"},
                             {1e300, 1 / 86400.0, "days"}};
  const Unit* u = kUnits;
  while (!(s < u->below) && u + 1 != std::end(kUnits)) ++u;
  char text[48];
  std::snprintf(text, sizeof text, "%.3g %s", s * u->per_second, u->name);
  return text;
}

}  // namespace tinyphys
