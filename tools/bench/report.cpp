#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace tinyphys::bench {
namespace {

// Three digits in the unit that fits.
std::string time_text(double seconds) {
  if (std::isnan(seconds)) return "-";
  struct Unit {
    double scale;
    const char* name;
  };
  constexpr auto kUnits = std::to_array<Unit>({{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}});
  const auto unit =
      std::find_if(kUnits.begin(), kUnits.end() - 1, [&](const Unit& u) { return seconds >= u.scale; });
  const double value = seconds / unit->scale;
  return fmt::format("{:.{}f} {}", value, value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, unit->name);
}

std::string ratio_text(double ratio) {
  if (std::isnan(ratio)) return "-";
  return fmt::format("{:.{}f}", ratio, ratio >= 99.95 ? 0 : ratio >= 9.995 ? 1 : ratio >= 0.0995 ? 2 : 3);
}

std::string_view verdict(const Result& r) {
  if (r.status == Status::kWrong) return "WRONG";
  if (r.status == Status::kError) return "ERROR";
  if (r.goal == nullptr) return "";
  return r.holds() ? "yes" : "NO";
}

std::size_t name_width(std::span<const Row* const> rows) {
  std::size_t width = 4;
  for (const Row* row : rows) width = std::max(width, row->name.size());
  return width;
}

constexpr const char* kLine = "{:<{}}  {:>10}  {:>8}  {:>8}  {:>9}  {:>7}  {:<5}  {}\n";

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += fmt::format("\\{}", c);
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    else
      out += c;
  }
  return out + "\"";
}

// JSON has no NaN and no infinity.
std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{:.9g}", value) : "null"; }

std::string_view status_name(Status s) {
  switch (s) {
    case Status::kOk: return "ok";
    case Status::kWrong: return "wrong";
    case Status::kError: return "error";
  }
  return "?";
}

}  // namespace

void print_list(std::span<const Row* const> rows) {
  const std::size_t width = name_width(rows);
  for (const Row* row : rows) {
    fmt::print("{:<{}}  {}\n", row->name, width, row->work);
    if (!row->reference.empty()) fmt::print("{:<{}}  reference: {}\n", "", width, row->reference);
    if (const Goal* goal = find_goal(row->name)) fmt::print("{:<{}}  goal: {}\n", "", width, goal->words);
  }
}

void print_head(const Machine& m, std::span<const Row* const> rows) {
  fmt::print("{}, {} CPUs, load {:.2f} at the start; device {}, threads {}; references by {} -O3\n", m.cpu,
             m.cpus, m.load, m.device, m.threads, m.compiler);
  if (m.load > 0.5 * m.cpus)
    fmt::print("Other programs are running here: times are too long, and ratios uncertain.\n");
#ifndef NDEBUG
  fmt::print("Not an optimised build: the goals are stated for the release preset.\n");
#endif
  fmt::print("ratio = reference / median: above 1 is faster than the reference\n\n");
  fmt::print(fmt::runtime(kLine), "row", name_width(rows), "n", "median", "spread", "reference", "ratio",
             "holds", "goal");
}

void print_result(const Result& r, std::span<const Row* const> rows) {
  const std::size_t width = name_width(rows);
  fmt::print(fmt::runtime(kLine), r.row->name, width, r.row->n, time_text(r.work.median),
             time_text(r.work.spread), time_text(r.reference.median), ratio_text(r.ratio), verdict(r),
             r.goal ? r.goal->words : "");
  fmt::print("{:<{}}  {}", "", width, r.row->work);
  fmt::print("{}{}\n", r.row->reference.empty() ? "" : "; reference: ", r.row->reference);
  if (!r.note.empty()) fmt::print("{:<{}}  {}\n", "", width, r.note);
  std::fflush(stdout);
}

void print_verdict(std::span<const Result> results) {
  const auto stated =
      std::count_if(results.begin(), results.end(), [](const Result& r) { return r.goal != nullptr; });
  const auto held = std::count_if(results.begin(), results.end(),
                                  [](const Result& r) { return r.goal != nullptr && r.holds(); });
  fmt::print("\n{} of {} goals hold\n", held, stated);
  for (const Result& r : results) {
    if (r.holds()) continue;
    const std::string what = r.status != Status::kOk           ? std::string(r.note)
                             : std::isinf(r.goal->max_seconds) ? "ratio " + ratio_text(r.ratio)
                                                               : time_text(r.work.median);
    fmt::print("missed: {}{}{}: {}\n", r.row->name, r.goal ? ", " : "", r.goal ? r.goal->words : "", what);
  }
}

std::string to_json(const Machine& m, std::span<const Result> results) {
  std::string out = "[";
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Result& r = results[i];
    out += i == 0 ? "\n" : ",\n";
    out += fmt::format(
        "  {{\"name\": {}, \"work\": {}, \"device\": {}, \"n\": {}, \"threads\": {}, \"median_s\": {}, "
        "\"spread_s\": {}, \"min_s\": {}, \"samples\": {}, \"reference\": {}, \"reference_s\": {}, "
        "\"ratio\": {}, "
        "\"goal\": {}, \"holds\": {}, \"status\": {}, \"note\": {}, \"cpu\": {}}}",
        json_text(r.row->name), json_text(r.row->work), json_text(m.device), r.row->n, m.threads,
        json_number(r.work.median), json_number(r.work.spread), json_number(r.work.fastest), r.work.samples,
        r.row->reference.empty() ? "null" : json_text(r.row->reference), json_number(r.reference.median),
        json_number(r.ratio), r.goal ? json_text(r.goal->words) : "null",
        r.goal ? (r.holds() ? "true" : "false") : "null", json_text(status_name(r.status)),
        r.note.empty() ? "null" : json_text(r.note), json_text(m.cpu));
  }
  return out + "\n]\n";
}

}  // namespace tinyphys::bench
