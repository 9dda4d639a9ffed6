#include "support/env.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <sched.h>

#include <fmt/format.h>

#include "support/cost_model.hpp"
#include "support/debug.hpp"
#include "support/devices.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys::env {

namespace {

enum Id {
  kDebug,
  kDebugDir,
  kDevice,
  kCostModel,
  kOpt,
  kThreads,
  kVerify,
  kProgress,
  kFold,
  kPending,
  kTape,
  kCache,
  kCacheDir,
  kCacheMaxSize,
  kLongTests,
  kFuzzSeed,
  kFuzzGraphs,
  kTestSeed,
  kUpdateGolden,
  kCount
};

constexpr int kMaxThreads = 1024;
/// Where the fallback is the caller's.
constexpr std::int64_t kUnset = -1;

std::optional<std::int64_t> parse_int(std::string_view text, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) return {};
  return value;
}

/// The index of `text` in a list of words.
template <class... Words> std::optional<std::int64_t> parse_word(std::string_view text, Words... words) {
  std::array<std::string_view, sizeof...(words)> list{words...};
  auto found = std::find(list.begin(), list.end(), text);
  if (found == list.end()) return {};
  return found - list.begin();
}

std::optional<std::int64_t> parse_folder(std::string_view) { return 1; }
/// The n-th word of a list with spaces between; empty beyond its end.
std::string_view word(std::string_view list, std::int64_t n) {
  for (; n > 0 && !list.empty(); --n) list.remove_prefix(std::min(list.find(' '), list.size() - 1) + 1);
  return list.substr(0, list.find(' '));
}
std::optional<std::int64_t> parse_name(std::string_view list, std::string_view text) {
  for (std::int64_t n = 0; !word(list, n).empty(); ++n)
    if (word(list, n) == text) return n;
  return {};
}
constexpr int kTopicShift = 8;
/// A level, topics, or both, with commas between: the level, and a bit for each topic above kTopicShift.
std::optional<std::int64_t> parse_debug(std::string_view text) {
  std::int64_t level = 0, topics = 0;
  while (true) {
    const std::string_view part = text.substr(0, text.find(','));
    if (const auto n = parse_int(part, 0, 5))
      level = std::max(level, *n);
    else if (const auto topic = parse_name(kDebugTopics, part))
      topics |= std::int64_t{1} << *topic;
    else
      return {};
    if (part.size() == text.size()) return level | topics << kTopicShift;
    text.remove_prefix(part.size() + 1);
  }
}
std::optional<std::int64_t> parse_device(std::string_view text) {
  if (const int number = device_number(text)) return number - 1;
  return {};
}
std::optional<std::int64_t> parse_cost_model(std::string_view text) {
  return parse_name(kCostModelNames, text);
}
std::optional<std::int64_t> parse_flag(std::string_view text) { return parse_int(text, 0, 1); }
std::optional<std::int64_t> parse_threads(std::string_view text) { return parse_int(text, 1, kMaxThreads); }
std::optional<std::int64_t> parse_pending(std::string_view text) { return parse_int(text, 64, 1'000'000); }
std::optional<std::int64_t> parse_progress(std::string_view text) {
  return parse_word(text, "auto", "0", "1");
}
/// Bytes, or so many K, M, G or T of 1024.
std::optional<std::int64_t> parse_size(std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  int shift = 0;
  if (const std::size_t unit = text.empty() ? kUnits.npos : kUnits.find(text.back()); unit != kUnits.npos) {
    constexpr int kKilo = 10;
    shift = kKilo * (static_cast<int>(unit) + 1);
    text.remove_suffix(1);
  }
  const auto n = parse_int(text, 0, std::numeric_limits<std::int64_t>::max() >> shift);
  if (!n) return {};
  return *n << shift;
}
std::optional<std::int64_t> parse_count(std::string_view text) {
  return parse_int(text, 0, std::numeric_limits<std::int64_t>::max());
}

}  // namespace

std::optional<std::int64_t> bytes_from_text(std::string_view text) { return parse_size(text); }

namespace {

constexpr std::array<Variable, kCount> kVariables{{
    {"TINYPHYS_DEBUG", "0 1 2 3 4 5, or topics: graph,cache", "0", "how much to tell on stderr, and of what"},
    {"TINYPHYS_DEBUG_DIR", "a folder", "none", "where each stage of a new plan is written as text and DOT"},
    {"TINYPHYS_DEVICE", kDeviceNames, "cpu", "the device that runs what names no device"},
    {"TINYPHYS_COST_MODEL", kCostModelNames, "auto",
     "the kind of machine whose costs decide between a loop and a jump"},
    {"TINYPHYS_OPT", "0 1", "1", "0 turns off physics passes and fusion"},
    {"TINYPHYS_THREADS", "1 to 1024", "the number of CPUs available to the process",
     "threads of a computation"},
    {"TINYPHYS_VERIFY", "0 1", "0", "1 checks the graph against its spec after each pass"},
    {"TINYPHYS_PROGRESS", "auto 0 1", "auto", "the progress bar: on a terminal, never, always"},
    {"TINYPHYS_FOLD", "0 1", "1", "0 keeps plain loops as the chains that they record"},
    {"TINYPHYS_PENDING", "64 to 1000000", "4096", "recorded operations at which a plain loop is looked for"},
    {"TINYPHYS_TAPE", "0 or more", "16777216", "bytes of states that the gradient through a loop may keep"},
    {"TINYPHYS_CACHE", "0 1", "1", "0 neither reads nor writes compiled kernels on disk"},
    {"TINYPHYS_CACHE_DIR", "a folder", "$XDG_CACHE_HOME/tinyphys, else ~/.cache/tinyphys",
     "where compiled kernels are kept"},
    {"TINYPHYS_CACHE_MAXSIZE", "bytes, or so many K M G T", "1G",
     "what they may take there; those used longest ago go first"},
    {"TINYPHYS_LONG_TESTS", "0 1", "0", "1 runs the tests that take minutes"},
    {"TINYPHYS_FUZZ_SEED", "0 or more", "each fuzzer's own", "where the random graphs and rule inputs start"},
    {"TINYPHYS_FUZZ_GRAPHS", "0 or more", "each fuzzer's own", "how many random graphs a fuzzer makes"},
    {"TINYPHYS_TEST_SEED", "0 or more", "each test's own", "the seed of tests that draw values at random"},
    {"TINYPHYS_UPDATE_GOLDEN", "0 1", "0", "1 writes the files of tests/golden anew"},
}};

struct Rule {
  std::optional<std::int64_t> (*parse)(std::string_view);
  std::int64_t (*fallback)();
};

constexpr std::array<Rule, kCount> kRules{{
    {parse_debug, [] { return std::int64_t{0}; }},
    {parse_folder, [] { return std::int64_t{0}; }},
    {parse_device, [] { return std::int64_t{0}; }},
    {parse_cost_model, [] { return std::int64_t{0}; }},
    {parse_flag, [] { return std::int64_t{1}; }},
    {parse_threads, [] { return std::int64_t{available_cpus()}; }},
    {parse_flag, [] { return std::int64_t{0}; }},
    {parse_progress, [] { return std::int64_t{0}; }},
    {parse_flag, [] { return std::int64_t{1}; }},
    {parse_pending, [] { return std::int64_t{4096}; }},
    {parse_count, [] { return std::int64_t{1} << 24; }},
    {parse_flag, [] { return std::int64_t{1}; }},
    {parse_folder, [] { return std::int64_t{0}; }},
    {parse_size, [] { return std::int64_t{1} << 30; }},
    {parse_flag, [] { return std::int64_t{0}; }},
    {parse_count, [] { return kUnset; }},
    {parse_count, [] { return kUnset; }},
    {parse_count, [] { return kUnset; }},
    {parse_flag, [] { return std::int64_t{0}; }},
}};

/// The value of a variable, as its parser numbers it. A value that is not understood is reported once.
std::int64_t evaluate(Id id, std::optional<std::string_view> text) {
  const Variable& variable = kVariables[id];
  if (!text || text->empty()) return kRules[id].fallback();
  if (std::optional<std::int64_t> value = kRules[id].parse(*text)) return *value;
  std::int64_t fallback = kRules[id].fallback();
  std::string chosen(variable.fallback);
  if (id == kThreads) chosen = fmt::format("{} ({})", fallback, variable.fallback);
  warn_once(fmt::format("env {}={}", variable.name, *text),
            fmt::format("{}={} is not understood; valid values: {}; using {}", variable.name, *text,
                        variable.values, chosen));
  return fallback;
}

struct State {
  std::array<std::atomic<std::int64_t>, kCount> values;
  std::array<std::optional<std::string>, kCount> overrides;  // guarded by mutex
  std::string debug_dir, cache_dir;                          // guarded by mutex
  std::mutex mutex;

  State() {
    for (int id = 0; id < kCount; ++id) read(static_cast<Id>(id));
  }

  void read(Id id) {
    std::optional<std::string_view> text = overrides[id];
    if (!text) {
      if (const char* found = std::getenv(kVariables[id].name.data())) text = found;
    }
    if (id == kDebugDir) debug_dir = text.value_or("");
    if (id == kCacheDir) cache_dir = text.value_or("");
    values[id].store(evaluate(id, text), std::memory_order_relaxed);
  }
};

State& state() {
  // Never destroyed: worker threads and other static objects may still ask while the process ends.
  static State& instance = *new State;
  return instance;
}

std::int64_t value(Id id) { return state().values[id].load(std::memory_order_relaxed); }

std::int64_t value_or(Id id, std::int64_t fallback) {
  std::int64_t found = value(id);
  return found == kUnset ? fallback : found;
}

Id find(std::string_view name) {
  for (int id = 0; id < kCount; ++id) {
    if (kVariables[id].name == name) return static_cast<Id>(id);
  }
  throw Error("env", fmt::format("no environment variable {} is declared in env.cpp", name));
}

std::optional<std::string> exchange_override(std::string_view name, std::optional<std::string_view> text) {
  Id id = find(name);
  State& s = state();
  std::lock_guard lock(s.mutex);
  std::optional<std::string> previous = s.overrides[id];
  s.overrides[id] = text;
  s.read(id);
  return previous;
}

}  // namespace

int debug_level() { return static_cast<int>(value(kDebug) & ((1 << kTopicShift) - 1)); }
bool debug_topic(std::string_view topic) {
  const std::int64_t topics = value(kDebug) >> kTopicShift;
  if (topics == 0) return false;
  const auto n = parse_name(kDebugTopics, topic);
  return n && (topics >> *n & 1) != 0;
}
std::string debug_dir() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.debug_dir;
}
bool dumping() { return value(kDebugDir) != 0; }
std::string_view cost_model() { return word(kCostModelNames, value(kCostModel)); }
std::string_view device() { return word(kDeviceNames, value(kDevice)); }
bool optimize() { return value(kOpt) != 0; }
int threads() { return static_cast<int>(value(kThreads)); }
bool verify() { return value(kVerify) != 0; }
ProgressChoice progress() { return static_cast<ProgressChoice>(value(kProgress)); }
bool fold() { return value(kFold) != 0; }
std::size_t pending() { return static_cast<std::size_t>(value(kPending)); }
double tape_bytes() { return static_cast<double>(value(kTape)); }
bool cache() { return value(kCache) != 0; }
std::string cache_dir() {
  {
    State& s = state();
    std::lock_guard lock(s.mutex);
    if (!s.cache_dir.empty()) return s.cache_dir;
  }
  // The base directories of freedesktop.org; a relative path counts as unset there.
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg == '/')
    return std::string(xdg) + "/tinyphys";
  if (const char* home = std::getenv("HOME"); home && *home == '/')
    return std::string(home) + "/.cache/tinyphys";
  return {};
}
bool cache_dir_is_default() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  return s.cache_dir.empty();
}
std::int64_t cache_max_bytes() { return value(kCacheMaxSize); }
bool long_tests() { return value(kLongTests) != 0; }
std::int64_t fuzz_seed(std::int64_t fallback) { return value_or(kFuzzSeed, fallback); }
std::int64_t fuzz_graphs(std::int64_t fallback) { return value_or(kFuzzGraphs, fallback); }
std::int64_t test_seed(std::int64_t fallback) { return value_or(kTestSeed, fallback); }

bool update_golden() { return value(kUpdateGolden) != 0; }

std::span<const Variable> variables() { return kVariables; }

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::clamp(CPU_COUNT(&set), 1, kMaxThreads);
}

void set_override(std::string_view name, std::optional<std::string_view> text) {
  exchange_override(name, text);
}

ScopedOverride::ScopedOverride(std::string_view name, std::string_view text)
    : name_(name), previous_(exchange_override(name, text)) {}

ScopedOverride::~ScopedOverride() { exchange_override(name_, previous_); }

}  // namespace tinyphys::env
