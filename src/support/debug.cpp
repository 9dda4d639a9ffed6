#include "support/debug.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <fmt/format.h>

namespace tinyphys {

namespace {

struct Sink {
  std::mutex mutex;
  std::string status;
  std::unordered_set<std::string> seen;
  std::string* capture = nullptr;
  std::string dump_folder;
  int dumps = 0;  // into that folder

  void write(std::string_view text) {
    if (capture) {
      capture->append(text);
    } else {
      // stderr is unbuffered: one call is one write, which other processes on the terminal cannot split.
      std::fwrite(text.data(), 1, text.size(), stderr);
    }
  }

  void write_lines(std::string_view lines) {
    if (status.empty()) return write(lines);
    write(fmt::format("\r\033[K{}{}", lines, status));
  }
};

Sink& sink() {
  // Never destroyed: static objects of other files may warn while the process ends.
  static Sink& instance = *new Sink;
  return instance;
}

std::string prefixed(std::string_view topic, std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  std::string lines;
  while (true) {
    size_t end = text.find('\n');
    lines += fmt::format("[tinyphys {}] {}\n", topic, text.substr(0, end));
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

void debug_print(int level, std::string_view topic, std::string_view text) {
  if (debug_enabled(level, topic)) write_stderr(prefixed(topic, text));
}

void dump(std::string_view stage, std::initializer_list<DumpFile> files) {
  if (!env::dumping()) return;
  const std::string folder = env::debug_dir();
  std::string name(stage);
  std::replace(name.begin(), name.end(), ' ', '-');
  int number = 0;
  {
    Sink& s = sink();
    std::lock_guard lock(s.mutex);
    if (s.dump_folder != folder) s.dumps = 0;
    s.dump_folder = folder;
    number = s.dumps++;
  }
  std::error_code ignored;  // the file then cannot be opened
  std::filesystem::create_directories(folder, ignored);
  for (const DumpFile& f : files) {
    if (f.text.empty()) continue;
    const std::string path = fmt::format("{}/{:04}-{}.{}", folder, number, name, f.extension);
    std::ofstream out(path);
    out << f.text;
    if (!out.flush())
      warn_once("dump " + folder, fmt::format("TINYPHYS_DEBUG_DIR={}: cannot write {}", folder, path));
  }
}

namespace {
thread_local FiredRules* fired_rules = nullptr;
constexpr long kMaxFiredRules = 10'000;
}  // namespace

FiredRules::FiredRules() : on_(env::dumping()) {
  if (!on_) return;
  outer_ = fired_rules;
  fired_rules = this;
}

FiredRules::~FiredRules() {
  if (!on_) return;
  fired_rules = outer_;
  if (!outer_) return;
  if (outer_->fired_ < kMaxFiredRules) outer_->lines_ += lines_;
  outer_->fired_ += fired_;
}

bool FiredRules::count() { return fired_rules && fired_rules->fired_++ < kMaxFiredRules; }

void FiredRules::keep(const std::string& line) {
  if (fired_rules) fired_rules->lines_ += line + "\n";
}

std::string FiredRules::text() const {
  if (fired_ == 0) return {};
  const auto kept = std::count(lines_.begin(), lines_.end(), '\n');
  return kept < fired_ ? fmt::format("{}and {} more\n", lines_, fired_ - kept) : lines_;
}

// Asks no environment variable: env.cpp warns through here while it reads them.
void warn_once(std::string_view key, std::string_view text) {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  if (s.seen.emplace(key).second) s.write_lines(prefixed("warning", text));
}

void write_stderr(std::string_view lines) {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  s.write_lines(lines);
}

void set_status_line(std::string_view text) {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  if (s.status.empty() && text.empty()) return;
  s.status = text;
  s.write(fmt::format("\r\033[K{}", text));
}

DebugCapture::DebugCapture() {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  outer_seen_.swap(s.seen);
  outer_ = s.capture;
  s.capture = &text_;
}

DebugCapture::~DebugCapture() {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  outer_seen_.swap(s.seen);
  s.capture = outer_;
}

std::string DebugCapture::text() const {
  std::lock_guard lock(sink().mutex);
  return text_;
}

}  // namespace tinyphys
