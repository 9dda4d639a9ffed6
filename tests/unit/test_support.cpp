// The support library: errors, environment, debug output, thread pool, hashes, small vector, progress bar.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <latch>
#include <numeric>
#include <regex>
#include <set>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "support/cost_model.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "support/function_ref.hpp"
#include "support/hash.hpp"
#include "support/progress.hpp"
#include "support/small_vector.hpp"
#include "support/thread_pool.hpp"
#include "tinyphys/error.hpp"

using namespace tinyphys;

namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.is_open(), path);
  return {std::istreambuf_iterator<char>(file), {}};
}

long count(std::string_view text, std::string_view what) {
  long found = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

bool contains(std::string_view text, std::string_view what) { return text.find(what) != text.npos; }

}  // namespace

TEST_CASE("error: what() names the call, the message and the user's line") {
  CHECK(std::string(Error("matmul", "shapes [3,4] and [5,2] do not contract", "/a/b/sim.cpp", 12).what()) ==
        "[matmul] shapes [3,4] and [5,2] do not contract (sim.cpp:12)");
  CHECK(std::string(Error("f", "m", "sim.cpp", 7).what()) == "[f] m (sim.cpp:7)");
  CHECK(std::string(Error("f", "m", nullptr, 0).what()) == "[f] m");
  CHECK(std::string(Error("f", "m", "sim.cpp", 0).what()) == "[f] m");

  auto here = std::source_location::current();
  Error e("item", "{} braces stay", here);
  CHECK(e.call() == "item");
  CHECK(e.message() == "{} braces stay");
  CHECK(e.file() == here.file_name());
  CHECK(e.line() == here.line());
  CHECK(contains(e.what(), fmt::format("(test_support.cpp:{})", here.line())));
  CHECK_THROWS_AS(throw Error("f", "m"), std::runtime_error);
}

TEST_CASE("env: values, and one warning for a bad one") {
  SUBCASE("good values") {
    DebugCapture err;
    env::ScopedOverride debug("TINYPHYS_DEBUG", "3"), device("TINYPHYS_DEVICE", "interp");
    env::ScopedOverride opt("TINYPHYS_OPT", "0"), threads_("TINYPHYS_THREADS", "7");
    env::ScopedOverride verify("TINYPHYS_VERIFY", "1"), progress("TINYPHYS_PROGRESS", "0");
    CHECK(env::debug_level() == 3);
    CHECK(debug_enabled(3, "graph"));
    CHECK_FALSE(debug_enabled(4, "source"));
    CHECK(env::device() == "interp");
    CHECK_FALSE(env::optimize());
    CHECK(env::threads() == 7);
    CHECK(threads() == 7);
    CHECK(env::verify());
    CHECK(env::progress() == env::ProgressChoice::Off);
    CHECK(err.text().empty());
  }
  SUBCASE("TINYPHYS_DEBUG=nonsense is 0 and warns once, with the valid values") {
    DebugCapture err;
    for (int i = 0; i < 3; ++i) {
      env::ScopedOverride bad("TINYPHYS_DEBUG", "nonsense");
      CHECK(env::debug_level() == 0);
    }
    CHECK(err.text() ==
          "[tinyphys warning] TINYPHYS_DEBUG=nonsense is not understood; valid values: 0 1 2 3 4 5, or "
          "topics: graph,cache; using 0\n");
  }
  SUBCASE("TINYPHYS_THREADS that is no count falls back to the CPUs there are") {
    for (const char* text : {"0", "-1", "many", "2x", " 2", "1e9", "99999999999999999999"}) {
      DebugCapture err;
      env::ScopedOverride bad("TINYPHYS_THREADS", text);
      CAPTURE(text);
      CHECK(env::threads() == env::available_cpus());
      CHECK(count(err.text(), "\n") == 1);
      CHECK(contains(err.text(), "valid values: 1 to 1024"));
      CHECK(contains(err.text(), fmt::format("using {}", env::available_cpus())));
    }
  }
  SUBCASE("an empty value is the default") {
    DebugCapture err;
    env::ScopedOverride opt("TINYPHYS_OPT", ""), device("TINYPHYS_DEVICE", "");
    CHECK(env::optimize());
    CHECK(env::device() == "cpu");
    CHECK(err.text().empty());
  }
  SUBCASE("a level that does not exist yet is not understood") {
    DebugCapture err;
    env::ScopedOverride bad("TINYPHYS_DEBUG", "6");
    CHECK(env::debug_level() == 0);
    CHECK(count(err.text(), "\n") == 1);
  }
  SUBCASE("numbers of the tests") {
    env::ScopedOverride seed("TINYPHYS_FUZZ_SEED", "123456789012"), unset("TINYPHYS_FUZZ_GRAPHS", "");
    CHECK(env::fuzz_seed(1) == 123456789012);
    CHECK(env::fuzz_graphs(2000) == 2000);
  }
  SUBCASE("overrides nest, and an undeclared name is an error") {
    env::ScopedOverride outer("TINYPHYS_DEBUG", "1");
    {
      env::ScopedOverride inner("TINYPHYS_DEBUG", "2");
      CHECK(env::debug_level() == 2);
    }
    CHECK(env::debug_level() == 1);
    CHECK_THROWS_WITH_AS(env::set_override("TINYPHYS_DEBUGG", "1"), doctest::Contains("TINYPHYS_DEBUGG"),
                         Error);
  }
}

TEST_CASE("env: topics of TINYPHYS_DEBUG, beside a level or alone") {
  const auto enabled = [](const char* text, int level, const char* topic) {
    const env::ScopedOverride set("TINYPHYS_DEBUG", text);
    return debug_enabled(level, topic);
  };
  {
    const DebugCapture err;
    CHECK(enabled("cache", 5, "cache"));
    CHECK_FALSE(enabled("cache", 1, "time"));
    CHECK(enabled("time,asm", 5, "asm"));
    CHECK(enabled("time,asm", 1, "time"));
    CHECK(enabled("2,asm", 2, "kernel"));
    CHECK_FALSE(enabled("2,asm", 3, "graph"));
    CHECK(enabled("asm,2", 5, "asm"));
    CHECK_FALSE(enabled("0", 1, "time"));
    CHECK_FALSE(enabled("graph,rewrite,physics,schedule,kernel,source,ir,asm,cache,time", 1, "no topic"));
    CHECK(err.text() == "");
  }
  for (const char* wrong : {"caches", "cache,", ",", "1,,2", "graph cache", "6,cache", "cache,-1"}) {
    const DebugCapture err;
    CHECK_FALSE(enabled(wrong, 1, "cache"));
    CHECK(contains(err.text(), "is not understood"));
  }
  const env::ScopedOverride set("TINYPHYS_DEBUG", "schedule");
  const DebugCapture err;
  debug_print(2, "schedule", "told");
  debug_print(1, "time", "not told");
  CHECK(err.text() == "[tinyphys schedule] told\n");
  // The page has every topic.
  const std::string page = read_text(std::filesystem::path(TINYPHYS_SOURCE_DIR) / "docs/environment.md");
  std::istringstream topics{std::string(env::kDebugTopics)};
  for (std::string topic; topics >> topic;) CHECK(contains(page, "\n| `" + topic + "` | "));
}

TEST_CASE("env: docs/environment.md has the table, row by row") {
  const std::filesystem::path root(TINYPHYS_SOURCE_DIR);
  const std::string page = read_text(root / "docs/environment.md");
  for (const env::Variable& v : env::variables()) {
    const std::string row = fmt::format("| `{}` | `{}` | {} | {} |\n", v.name, v.values, v.fallback, v.doc);
    CAPTURE(row);
    CHECK(contains(page, row));
  }
  CHECK(count(page, "\n| `TINYPHYS_") == static_cast<long>(env::variables().size()));
}

TEST_CASE("support: a cost model for each kind of machine, and a way to name it") {
  std::string names = "auto";
  for (const CostModel& m : cost_models()) {
    names += " " + std::string(m.kind);
    for (const double cost :
         {m.op_s, m.call_s, m.multiply_add_s, m.dd_multiply_add_s, m.kernel_compile_s, m.node_compile_s,
          m.loop_pass_s, m.scan_step_s, m.extraction_s, m.modes_build_cubic_s, m.mode_power_s,
          m.single_build_s, m.single_apply_s, m.lattice_probe_s, m.lattice_mode_s, m.fft_point_s}) {
      CHECK(cost > 0);
      CHECK(cost < 0.1);
    }
    const env::ScopedOverride kind("TINYPHYS_COST_MODEL", m.kind);
    CHECK(cost_model().kind == m.kind);
    CHECK(&cost_model() == &m);
  }
  CHECK(names == kCostModelNames);
  const env::ScopedOverride here("TINYPHYS_COST_MODEL", "auto");
  CHECK(names.find(cost_model().kind) != std::string::npos);
}

TEST_CASE("env: no source reads a variable that is not in the table") {
  const std::filesystem::path root(TINYPHYS_SOURCE_DIR);
  const std::regex use("getenv\\(\"(TINYPHYS_[A-Z_]+)\"\\)");
  std::set<std::string> declared;
  for (const env::Variable& v : env::variables()) declared.emplace(v.name);
  for (const char* folder : {"include", "src", "tests", "examples", "tools"}) {
    if (!std::filesystem::exists(root / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".cpp" && extension != ".hpp") continue;
      const std::string text = read_text(entry.path());
      if (!contains(text, "getenv")) continue;
      for (std::sregex_iterator it(text.begin(), text.end(), use), end; it != end; ++it) {
        CAPTURE(entry.path().string());
        CAPTURE((*it)[1].str());
        CHECK(declared.count((*it)[1].str()) == 1);
      }
    }
  }
}

TEST_CASE("debug: whole prefixed lines, by level") {
  DebugCapture err;
  env::ScopedOverride level("TINYPHYS_DEBUG", "2");
  debug_print(1, "time", "one");
  debug_print(2, "schedule", "two\nthree\n");
  debug_print(3, "physics", "not this");
  debug_print(1, "empty", "");
  CHECK(err.text() ==
        "[tinyphys time] one\n[tinyphys schedule] two\n[tinyphys schedule] three\n[tinyphys empty] \n");
}

TEST_CASE("debug: lines of several threads do not mix") {
  DebugCapture err;
  env::ScopedOverride level("TINYPHYS_DEBUG", "1");
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([t] {
      for (int i = 0; i < 50; ++i) debug_print(1, "t", fmt::format("{0} a\n{0} b", t));
    });
  }
  for (std::thread& w : writers) w.join();
  std::istringstream lines(err.text());
  std::string first, second;
  int pairs = 0;
  while (std::getline(lines, first) && std::getline(lines, second)) {
    first.back() = 'b';
    CHECK(first == second);
    ++pairs;
  }
  CHECK(pairs == 200);
}

TEST_CASE("debug: warn_once is by key, at any level, and captures nest") {
  DebugCapture outer;
  env::ScopedOverride level("TINYPHYS_DEBUG", "0");
  warn_once("k", "first");
  warn_once("k", "again");
  {
    DebugCapture inner;
    warn_once("k", "inside");
    CHECK(inner.text() == "[tinyphys warning] inside\n");
  }
  warn_once("k", "again");
  warn_once("other", "second");
  CHECK(outer.text() == "[tinyphys warning] first\n[tinyphys warning] second\n");
}

TEST_CASE("debug: lines go above the status line") {
  DebugCapture err;
  set_status_line("50%");
  write_stderr("line\n");
  set_status_line("");
  write_stderr("after\n");
  set_status_line("");
  CHECK(err.text() == "\r\033[K50%\r\033[Kline\n50%\r\033[Kafter\n");
}

TEST_CASE("function_ref calls what it refers to") {
  int calls = 0;
  auto add = [&calls](int x) { return calls += x; };
  FunctionRef<int(int)> f = add;
  FunctionRef<int(int)> copy = f;
  CHECK(f(2) == 2);
  CHECK(copy(3) == 5);
  const auto twice = [](int x) { return 2 * x; };
  CHECK(FunctionRef<long(int)>(twice)(21) == 42);
}

TEST_CASE("thread pool: every block once, in contiguous ranges") {
  for (const char* n_threads : {"1", "2", "3", "8"}) {
    env::ScopedOverride set("TINYPHYS_THREADS", n_threads);
    for (long n : {0L, 1L, 2L, 7L, 64L, 1001L}) {
      CAPTURE(n_threads);
      CAPTURE(n);
      std::vector<int> hits(static_cast<std::size_t>(n), 0);
      parallel_for(n, [&](long block) { ++hits[static_cast<std::size_t>(block)]; });
      CHECK(std::count(hits.begin(), hits.end(), 1) == n);

      std::atomic<long> ranges{0}, covered{0}, longest{0};
      parallel_for(n, [&](long begin, long end) {
        ++ranges;
        covered += end - begin;
        long seen = longest;
        while (seen < end - begin && !longest.compare_exchange_weak(seen, end - begin)) {
        }
      });
      CHECK(covered == n);
      CHECK(ranges >= std::min<long>(n, threads()));
      if (threads() > 1) CHECK(longest <= std::max<long>(1, n / threads() / 4));
    }
  }
  parallel_for(-3, [](long) { FAIL("no blocks, no calls"); });
}

TEST_CASE("thread pool: the same bits for any number of threads") {
  auto sum = [] {
    std::vector<double> parts(37);
    parallel_for(37, [&](long block) {
      double s = 0;
      for (long i = 0; i < 1000; ++i) s += 1.0 / static_cast<double>(1 + block * 1000 + i);
      parts[static_cast<std::size_t>(block)] = s;
    });
    return std::accumulate(parts.begin(), parts.end(), 0.0);
  };
  std::set<double> results;
  for (const char* n_threads : {"1", "2", "5"}) {
    env::ScopedOverride set("TINYPHYS_THREADS", n_threads);
    for (int i = 0; i < 20; ++i) results.insert(sum());
  }
  CHECK(results.size() == 1);
}

TEST_CASE("thread pool: one thread touches no worker") {
  env::ScopedOverride set("TINYPHYS_THREADS", "1");
  const auto caller = std::this_thread::get_id();
  parallel_for(100, [&](long) { CHECK(std::this_thread::get_id() == caller); });
}

TEST_CASE("thread pool: blocks of several threads do run on several threads, the first on the caller") {
  env::ScopedOverride set("TINYPHYS_THREADS", "3");
  const auto caller = std::this_thread::get_id();
  std::vector<std::thread::id> ids(3);
  std::latch all_begun(3);
  parallel_for(3, [&](long block) {
    ids[static_cast<std::size_t>(block)] = std::this_thread::get_id();
    all_begun.arrive_and_wait();
  });
  CHECK(ids[0] == caller);
  CHECK(std::set(ids.begin(), ids.end()).size() == 3);
}

TEST_CASE("thread pool: what a slow thread has not begun is done by the others") {
  env::ScopedOverride set("TINYPHYS_THREADS", "3");
  for (const long slow : {0L, 20L, 47L}) {
    std::atomic<int> done{0};
    parallel_for(48, [&](long block) {
      // The blocks of its range are its own: two of 16.
      while (block == slow && done < 46) std::this_thread::yield();
      ++done;
    });
    CHECK(done == 48);
  }
}

TEST_CASE("thread pool: many small jobs on more threads than processors") {
  env::ScopedOverride set("TINYPHYS_THREADS", "7");
  for (long i = 0; i < 3000; ++i) {
    std::atomic<long> sum{0};
    parallel_for(1 + i % 29, [&](long block) { sum += block + i; });
    const long n = 1 + i % 29;
    REQUIRE(sum == n * (n - 1) / 2 + n * i);
  }
}

TEST_CASE("thread pool: nested loops run on the thread that meets them") {
  env::ScopedOverride set("TINYPHYS_THREADS", "4");
  std::vector<long> sums(8, 0);
  std::atomic<int> strayed{0};
  parallel_for(8, [&](long block) {
    const auto self = std::this_thread::get_id();
    parallel_for(100, [&](long i) {
      if (std::this_thread::get_id() != self) ++strayed;
      sums[static_cast<std::size_t>(block)] += i;
    });
  });
  CHECK(strayed == 0);
  CHECK(std::all_of(sums.begin(), sums.end(), [](long s) { return s == 4950; }));
}

TEST_CASE("thread pool: an exception reaches the caller, and the pool lives on") {
  env::ScopedOverride set("TINYPHYS_THREADS", "4");
  for (long bad : {0L, 5L, 15L}) {
    std::atomic<int> done{0};
    auto body = [&](long block) {
      if (block == bad) throw Error("block", fmt::format("{}", block));
      ++done;
    };
    CHECK_THROWS_WITH_AS(parallel_for(16, body), doctest::Contains(fmt::format("] {} (", bad).c_str()),
                         Error);
    CHECK(done >= 12);  // the three other ranges finish
  }
  // Where all ranges throw, the lowest one wins, whichever was first in time.
  for (int i = 0; i < 50; ++i) {
    CHECK_THROWS_WITH(
        parallel_for(16, [](long block) { throw std::runtime_error(fmt::format("b{}", block)); }), "b0");
  }
  std::atomic<int> calls{0};
  parallel_for(16, [&](long) { ++calls; });
  CHECK(calls == 16);
}

TEST_CASE("thread pool: callers on several threads, and pools of their own") {
  env::ScopedOverride set("TINYPHYS_THREADS", "3");
  std::atomic<long> total{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) parallel_for(10, [&](long block) { total += block; });
    });
  }
  for (std::thread& c : callers) c.join();
  CHECK(total == 3 * 200 * 45);

  for (int i = 0; i < 10; ++i) {
    ThreadPool pool;
    std::vector<long> out(50);
    pool.run(50, 4, [&](long begin, long end) {
      for (long b = begin; b < end; ++b) out[static_cast<std::size_t>(b)] = b;
    });
    CHECK(std::accumulate(out.begin(), out.end(), 0L) == 1225);
  }
}

TEST_CASE("thread pool: workers that went to sleep wake again") {
  env::ScopedOverride set("TINYPHYS_THREADS", "2");
  for (int i = 0; i < 20; ++i) {
    long values[2] = {0, 0};
    parallel_for(2, [&](long block) { values[block] = block + 1; });
    CHECK(values[0] + values[1] == 3);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST_CASE("hash: XXH3 of known texts, equal for equal bytes") {
  // XXH3_128bits of the empty input, from the reference implementation's own documentation of the format.
  CHECK(hash_bytes("").hex() == "99aa06d3014798d86001c324468d497f");
  CHECK(hash_bytes("a") == hash_bytes(std::string("a")));
  std::set<std::string> seen;
  std::string text;
  for (int i = 0; i < 600; ++i, text += 'x') seen.insert(hash_bytes(text).hex());
  CHECK(seen.size() == 600);
  const double values[2] = {0.0, -0.0};
  CHECK(content_hash(&values[0], 8) != content_hash(&values[1], 8));
  CHECK(Hash128{1, 2}.hex() == "00000000000000020000000000000001");
}

TEST_CASE("hash_mix spreads, and tells order") {
  CHECK(hash_mix(hash_mix(0, 1), 2) != hash_mix(hash_mix(0, 2), 1));
  std::set<std::uint64_t> seen;
  std::vector<int> buckets(256, 0);
  for (std::uint64_t a = 0; a < 256; ++a) {
    for (std::uint64_t b = 0; b < 256; ++b) {
      // Operands that differ in few bits, as addresses of slab-allocated nodes do.
      const std::uint64_t h = hash_mix(hash_mix(7, a * 64), b * 64);
      seen.insert(h);
      ++buckets[h & 255];
    }
  }
  CHECK(seen.size() == 256 * 256);
  // 65536 balls in 256 buckets: mean 256, sigma 16; 6 sigma.
  CHECK(*std::max_element(buckets.begin(), buckets.end()) < 256 + 96);
  CHECK(*std::min_element(buckets.begin(), buckets.end()) > 256 - 96);
}

TEST_CASE("small vector: grows out of its inline room and back into copies") {
  using Vector = SmallVector<long, 3>;
  Vector v;
  CHECK(v.empty());
  CHECK(v.capacity() == 3);
  for (long i = 0; i < 10; ++i) v.push_back(i);
  CHECK(v.size() == 10);
  CHECK(v.front() == 0);
  CHECK(v.back() == 9);
  CHECK(std::accumulate(v.begin(), v.end(), 0L) == 45);

  Vector copy = v;
  CHECK(copy == v);
  copy[4] = -1;
  CHECK_FALSE(copy == v);
  const long* heap = v.data();
  Vector moved = std::move(v);
  CHECK(moved.data() == heap);
  CHECK(v.empty());
  v = copy;
  CHECK(v == copy);
  v = Vector{1, 2};
  CHECK(v == Vector{1, 2});
  copy = std::move(v);
  CHECK(copy == Vector{1, 2});
  Vector& same = copy;
  copy = same;
  copy = std::move(same);
  CHECK(copy == Vector{1, 2});

  std::span<const long> view = copy;
  CHECK(view.size() == 2);
  CHECK(Vector(view) == copy);
  CHECK(Vector(2, 5L) == Vector{5, 5});
  std::vector<long> other{1, 2, 3, 4};
  CHECK(Vector(other.begin(), other.end()) == Vector{1, 2, 3, 4});
}

TEST_CASE("small vector: insert, erase, resize, append, an element of its own") {
  SmallVector<int, 2> v{1, 3};
  v.insert(v.begin() + 1, 2);
  v.insert(v.end(), 4);
  v.insert(v.begin(), 0);
  CHECK(v == SmallVector<int, 2>{0, 1, 2, 3, 4});
  v.erase(v.begin());
  v.erase(v.begin() + 3);
  CHECK(v == SmallVector<int, 2>{1, 2, 3});
  v.resize(5, 9);
  CHECK(v == SmallVector<int, 2>{1, 2, 3, 9, 9});
  v.resize(1);
  v.append(std::vector<int>{7, 8});
  CHECK(v == SmallVector<int, 2>{1, 7, 8});
  v.pop_back();
  CHECK(v.back() == 7);
  v.clear();
  CHECK(v.empty());
  v = {5};
  for (int i = 0; i < 20; ++i) v.push_back(v.front());
  CHECK(std::count(v.begin(), v.end(), 5) == 21);
}

TEST_CASE("progress: the text of the bar") {
  CHECK(format_progress("evolve", 500000000, 1000000000, 12) ==
        "evolve [###############               ]  50.0%  5e+08/1e+09  eta 12s");
  CHECK(contains(format_progress("x", 0, 10, 1), "  0.0%  0/10  eta ?"));
  CHECK(contains(format_progress("x", 10, 10, 1), "100.0%  10/10  eta 0s"));
  CHECK(contains(format_progress("x", 1, 100, 10), "eta 16m30s"));
  CHECK(contains(format_progress("x", 1, 1000, 10), "eta 2h46m"));
  CHECK(contains(format_progress("x", 0, 0, 0), "100.0%"));
}

TEST_CASE("progress: drawn when asked for, at most ten times a second, and erased") {
  DebugCapture err;
  SUBCASE("forced") {
    env::ScopedOverride on("TINYPHYS_PROGRESS", "1");
    {
      ProgressBar bar("evolve", 1000);
      for (long i = 1; i <= 1000; ++i) bar.update(i);
    }
    // The first update draws; the other 999 are over within a tenth of a second, or a few on a slow machine.
    CHECK(contains(err.text(), "evolve ["));
    CHECK(count(err.text(), "evolve [") < 100);
    CHECK(err.text().ends_with("\r\033[K"));
  }
  SUBCASE("off") {
    env::ScopedOverride off("TINYPHYS_PROGRESS", "0");
    ProgressBar bar("evolve", 10);
    bar.update(5);
    bar.finish();
    CHECK(err.text().empty());
  }
  SUBCASE("automatic, over before it is worth a bar") {
    env::ScopedOverride automatic("TINYPHYS_PROGRESS", "auto");
    ProgressBar bar("evolve", 10);
    bar.update(5);
    bar.finish();
    CHECK(err.text().empty());
  }
}
