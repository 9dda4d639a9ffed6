#include "commands.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>
#include <map>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/device.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys::cache_tool {
namespace {

using Json = nlohmann::ordered_json;

// A file as far as it could be read.
struct Row {
  StoredKernel stored;
  KernelHeader header;
  KernelFile file;
  std::string problem;  // "": it is whole
  bool other_format() const { return problem.empty() && header.format != kKernelFormat; }
  std::string key() const { return stored.file.substr(0, stored.file.size() - kKernelSuffix.size()); }
  std::string field(std::string_view name) const {
    for (const KeyField& f : file.fields)
      if (f.name == name) return f.value;
    return "?";
  }
  std::string device() const {
    return problem.empty() && !other_format() ? field("backend") + "/" + field("device") : "?";
  }
  // The first result, and the place that asked for it: the last line of the graph before the LAMBDA's, without its number
  // and sources.
  std::string what() const {
    if (!problem.empty()) return "damaged: " + problem;
    if (other_format()) return fmt::format("of format {}, which this version cannot read", header.format);
    std::string_view text = file.graph;
    while (text.ends_with('\n')) text.remove_suffix(1);
    text = text.substr(0, text.rfind('\n'));
    text = text.substr(text.rfind('\n') + 1);
    text.remove_prefix(std::min(text.find(" = ") + 3, text.size()));
    std::string place;
    if (const std::size_t at = text.rfind("   "); at != text.npos)
      place = " " + std::string(text.substr(at + 3));
    return std::string(text.substr(0, text.find(" %"))) + place;
  }
};

Row read_row(const KernelStore& store, const StoredKernel& stored) {
  Row r{.stored = stored, .header = {}, .file = {}, .problem = {}};
  const std::string bytes = store.read(stored.file);
  r.problem = decode_header(bytes, r.header);
  if (!r.problem.empty() || r.other_format()) return r;
  r.problem = decode(bytes, r.header, r.file);
  if (r.problem.empty() && r.header.key != r.key()) r.problem = "its name is not its key";
  return r;
}

std::vector<Row> read_all(const KernelStore& store) {
  std::vector<Row> rows;
  for (const StoredKernel& k : store.list()) {
    if (k.unfinished) continue;
    try {
      rows.push_back(read_row(store, k));
    } catch (const std::system_error& e) {
      if (e.code() != std::errc::no_such_file_or_directory) throw;  // deleted since it was listed
    }
  }
  return rows;
}

std::string size_text(std::int64_t bytes) {
  constexpr double kKilo = 1024;
  double n = static_cast<double>(bytes);
  for (const char* unit : {"B", "K", "M", "G"}) {
    if (n < kKilo) return fmt::format("{:.{}f}{}", n, *unit == 'B' || n >= 100 ? 0 : 1, unit);
    n /= kKilo;
  }
  return fmt::format("{:.1f}T", n);
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}
std::string age_text(double since) {
  const double s = std::max(0.0, now() - since);
  constexpr double kMinute = 60, kHour = 3600, kDay = 86400;
  if (s < kMinute) return fmt::format("{:.0f}s", s);
  if (s < kHour) return fmt::format("{:.0f}m", s / kMinute);
  if (s < 2 * kDay) return fmt::format("{:.0f}h", s / kHour);
  return fmt::format("{:.0f}d", s / kDay);
}
std::string date_text(double t) {
  const auto seconds = static_cast<std::time_t>(t);
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local)};
}

Json to_json(const Row& r) {
  Json j;
  j["key"] = r.key();
  j["bytes"] = r.stored.bytes;
  j["used"] = r.stored.used;
  j["format"] = r.header.format;
  if (!r.problem.empty()) j["problem"] = r.problem;
  if (!r.problem.empty() || r.other_format()) return j;
  j["kernel"] = r.file.name;
  j["computes"] = r.what();
  j["device"] = r.field("device");
  j["backend"] = r.field("backend");
  j["made"] = r.header.made;
  j["hits"] = r.header.hits;
  return j;
}
// Files may hold any bytes.
void print_json(const Json& j) { fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace)); }

// The file with this key. Several, or none: says so and returns none.
std::optional<Row> find(const KernelStore& store, const std::string& key) {
  std::vector<Row> found;
  for (Row& r : read_all(store))
    if (r.key().starts_with(key) || (!r.file.name.empty() && r.file.name.starts_with(key)))
      found.push_back(std::move(r));
  if (found.size() == 1) return std::move(found[0]);
  fmt::print(stderr, "tinyphys-cache: {} of the files has the key {}\n",
             found.empty() ? "none" : fmt::format("more than one ({})", found.size()), key);
  return std::nullopt;
}

std::string assembly(const Row& r) {
  try {
    return device(r.field("device")).disassemble(r.file.payload);
  } catch (const Error&) {
    return {};  // a device of another version, or one that is not here now
  }
}

void heading(std::string_view text) { fmt::print("\n--- {} ---\n", text); }

// What was deleted.
struct Gone {
  long files = 0;
  std::int64_t bytes = 0;
  void add(const StoredKernel& k) {
    ++files;
    bytes += k.bytes;
  }
  int told() const {
    fmt::print("deleted {} files, {}\n", files, size_text(bytes));
    return kDone;
  }
};

// The first line in which two texts differ.
bool diff_text(std::string_view what, std::string_view a, std::string_view b) {
  if (a == b) return false;
  long line = 1;
  while (true) {
    const std::string_view x = a.substr(0, a.find('\n')), y = b.substr(0, b.find('\n'));
    if (x != y || x.size() == a.size() || y.size() == b.size()) {
      fmt::print("{}, line {}:\n- {}\n+ {}\n", what, line, x, y);
      return true;
    }
    a.remove_prefix(x.size() + 1);
    b.remove_prefix(y.size() + 1);
    ++line;
  }
}

}  // namespace

int list(KernelStore& store, const Options& o) {
  std::vector<Row> rows = read_all(store);
  const auto by = [&](auto value) {
    std::stable_sort(rows.begin(), rows.end(),
                     [&](const Row& a, const Row& b) { return value(a) > value(b); });
  };
  const auto by_text = [&](auto value) {
    std::stable_sort(rows.begin(), rows.end(),
                     [&](const Row& a, const Row& b) { return value(a) < value(b); });
  };
  by_text([](const Row& r) { return r.key(); });
  if (o.sort == "kernel")
    by_text([](const Row& r) { return r.what(); });
  else if (o.sort == "device")
    by_text([](const Row& r) { return r.device(); });
  else if (o.sort == "size")
    by([](const Row& r) { return r.stored.bytes; });
  else if (o.sort == "made")
    by([](const Row& r) { return r.header.made; });
  else if (o.sort == "used")
    by([](const Row& r) { return r.stored.used; });
  else if (o.sort == "hits")
    by([](const Row& r) { return r.header.hits; });
  else
    throw Usage{fmt::format("--sort {}: one of kernel, device, size, made, used, hits", o.sort)};
  if (o.reverse) std::reverse(rows.begin(), rows.end());
  if (o.json) {
    Json all = Json::array();
    for (const Row& r : rows) all.push_back(to_json(r));
    print_json(all);
    return kDone;
  }
  constexpr std::size_t kKeyDigits = 12, kLongest = 48;
  fmt::print("{:{}}  {:{}}  {:<12}  {:>6}  {:>5}  {:>5}  {:>6}\n", "KEY", kKeyDigits, "KERNEL", kLongest,
             "DEVICE", "SIZE", "MADE", "USED", "HITS");
  for (const Row& r : rows) {
    std::string what = r.what();
    if (what.size() > kLongest && r.problem.empty()) what = what.substr(0, kLongest - 3) + "...";
    const bool known = r.problem.empty() && !r.other_format();
    fmt::print("{:.{}}  {:{}}  {:<12}  {:>6}  {:>5}  {:>5}  {:>6}\n", r.key(), kKeyDigits, what, kLongest,
               r.device(), size_text(r.stored.bytes),
               known ? age_text(static_cast<double>(r.header.made)) : "?", age_text(r.stored.used),
               known ? std::to_string(r.header.hits) : "?");
  }
  return kDone;
}

int show(KernelStore& store, const Options& o) {
  const std::optional<Row> r = find(store, o.keys[0]);
  if (!r) return kFound;
  if (!r->problem.empty() || r->other_format()) {
    if (o.json)
      print_json(to_json(*r));
    else
      fmt::print("{}  {}\n", r->key(), r->what());
    return kFound;
  }
  const bool llvm = r->field("backend") == "llvm";
  const std::string machine_code = assembly(*r);
  if (o.json) {
    Json j = to_json(*r);
    for (const KeyField& f : r->file.fields) j["fields"][f.name] = f.value;
    j["graph"] = r->file.graph;
    j["source"] = r->file.source;
    j["assembly"] = machine_code;
    j["payload_bytes"] = r->file.payload.size();
    print_json(j);
    return kDone;
  }
  fmt::print("key       {}\nkernel    {}\ncomputes  {}\nfile      {}/{}, {} bytes, {} of them code\n",
             r->key(), r->file.name, r->what(), store.folder(), r->stored.file, r->stored.bytes,
             r->file.payload.size());
  fmt::print("made      {}\nused      {}, read {} times\n", date_text(static_cast<double>(r->header.made)),
             date_text(r->stored.used), r->header.hits);
  heading("key fields");
  for (const KeyField& f : r->file.fields) fmt::print("{:<9} {}\n", f.name, f.value);
  heading("graph");
  fmt::print("{}", r->file.graph);
  heading(llvm ? "LLVM IR" : "source");
  fmt::print("{}", r->file.source);
  heading("machine code");
  fmt::print("{}",
             machine_code.empty() ? "the device of this file cannot take it apart here\n" : machine_code);
  return kDone;
}

int stats(KernelStore& store, const Options& o) {
  struct Sum {
    long files = 0;
    std::int64_t bytes = 0, hits = 0;
  };
  std::map<std::string, Sum> devices;
  Sum all;
  long damaged = 0, other = 0, unfinished = 0;
  for (const Row& r : read_all(store)) {
    damaged += !r.problem.empty();
    other += r.other_format();
    for (Sum* s : {&all, &devices[r.device()]}) {
      ++s->files;
      s->bytes += r.stored.bytes;
      s->hits += r.header.hits;
    }
  }
  for (const StoredKernel& k : store.list()) unfinished += k.unfinished;
  if (o.json) {
    Json j{{"folder", store.folder()}, {"files", all.files}, {"bytes", all.bytes},
           {"hits", all.hits},         {"damaged", damaged}, {"other_formats", other},
           {"unfinished", unfinished}};
    j["devices"] = Json::object();
    for (const auto& [name, s] : devices)
      j["devices"][name] = {{"files", s.files}, {"bytes", s.bytes}, {"hits", s.hits}};
    print_json(j);
    return kDone;
  }
  fmt::print("folder      {}\nkernels     {}, {}, read {} times\n", store.folder(), all.files,
             size_text(all.bytes), all.hits);
  for (const auto& [name, s] : devices)
    fmt::print("  {:<9} {}, {}, read {} times\n", name, s.files, size_text(s.bytes), s.hits);
  fmt::print("damaged     {}\nof another version {}\nunfinished  {}\n", damaged, other, unfinished);
  return kDone;
}

int verify(KernelStore& store, const Options& o) {
  long good = 0, other = 0;
  std::vector<Row> bad;
  for (Row& r : read_all(store)) {
    if (!r.problem.empty())
      bad.push_back(std::move(r));
    else
      ++(r.other_format() ? other : good);
  }
  if (o.repair) {
    for (const Row& r : bad) store.remove(r.stored.file);
    store.prune(std::numeric_limits<std::int64_t>::max());  // what nobody finishes any more
  }
  if (o.json) {
    Json all = Json::array();
    for (const Row& r : bad) all.push_back(to_json(r));
    print_json(all);
    return bad.empty() ? kDone : kFound;
  }
  for (const Row& r : bad) fmt::print("{}: {}{}\n", r.key(), r.problem, o.repair ? "; deleted" : "");
  fmt::print("{} whole, {} damaged, {} of another version and not checked\n", good, bad.size(), other);
  return bad.empty() ? kDone : kFound;
}

int prune(KernelStore& store, const Options& o) {
  Gone gone;
  if (o.older_than_s)
    for (const StoredKernel& k : store.list())
      if (!k.unfinished && now() - k.used > *o.older_than_s && store.remove(k.file)) gone.add(k);
  store.prune(o.max_bytes.value_or(std::numeric_limits<std::int64_t>::max()),
              [&](const StoredKernel& k) { gone.add(k); });
  return gone.told();
}

int clear(KernelStore& store, const Options&) {
  Gone gone;
  for (const StoredKernel& k : store.list())
    if (store.remove(k.file)) gone.add(k);
  return gone.told();
}

int diff(KernelStore& store, const Options& o) {
  const std::optional<Row> a = find(store, o.keys[0]), b = find(store, o.keys[1]);
  if (!a || !b) return kFound;
  for (const Row* r : {&*a, &*b})
    if (!r->problem.empty() || r->other_format()) {
      fmt::print("{}  {}\n", r->key(), r->what());
      return kFound;
    }
  bool differs = diff_text("kernel", a->file.name, b->file.name);
  std::map<std::string, std::pair<std::string, std::string>> fields;
  for (const KeyField& f : a->file.fields) fields[f.name].first = f.value;
  for (const KeyField& f : b->file.fields) fields[f.name].second = f.value;
  for (const auto& [name, values] : fields) differs |= diff_text(name, values.first, values.second);
  differs |= diff_text("graph", a->file.graph, b->file.graph);
  differs |= diff_text("source", a->file.source, b->file.source);
  if (a->file.payload != b->file.payload) {
    fmt::print("the code differs: {} and {} bytes\n", a->file.payload.size(), b->file.payload.size());
    differs = true;
  }
  if (!differs) fmt::print("they are the same\n");
  return differs ? kFound : kDone;
}

}  // namespace tinyphys::cache_tool
