// What goes wrong when a value is asked for: the call, what was asked, and the user's own line, never the library's.
#include <functional>
#include <sstream>

#include <fmt/format.h>

#include "test_tensor_helpers.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tinyphys::testing {
namespace {

constexpr std::int64_t kHuge = std::int64_t{1} << 40;

std::string place(unsigned line) { return "test_errors_of_values.cpp:" + std::to_string(line); }

template <class T> std::string streamed(const T& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

}  // namespace

TEST_CASE("errors of values: what is being traced prints as what it is") {
  const Tensor x = Tensor::from({1.0, 2.0});
  Tensor leaked, argument;
  const unsigned line = __LINE__ + 3;
  std::string inside, streamed_inside;
  (void)grad([&](const Tensor& y) {
    const Tensor twice = 2.0 * y;
    inside = fmt::format("{}", twice);
    streamed_inside = streamed(twice);
    leaked = twice;
    argument = y;
    return twice.sum();
  })(x);
  const std::string text = "<float64[2] of " + place(line) + ", traced: no number yet>";
  CHECK(inside == text);
  CHECK(streamed_inside == text);
  CHECK(fmt::format("{:.3f}", leaked) == text);
  CHECK(to_string(leaked) == text);
  CHECK(to_string(argument).find("<float64[2]") == 0);
  CHECK(to_string(argument).find(".hpp") == std::string::npos);

  const std::string why =
      "the value depends on an argument of a function that is being traced (by grad, scan, a System, ...): "
      "it has no "
      "number yet; use where() in place of a branch on it";
  CHECK(message([&] { leaked.to_vector<double>(); }) == error_at("[to_vector] " + why));
  CHECK(message([&] { leaked.sum().item<double>(); }) == error_at("[item] " + why));
  CHECK(message([&] { leaked.realize(); }) == error_at("[realize] " + why));
  CHECK(message([&] { realize({x, leaked}); }) == error_at("[realize] " + why));
  CHECK(message([&] { leaked.clone(); }) == error_at("[clone] " + why));
  CHECK(message([&] { save("leaked.npy", leaked); }) == error_at("[save] " + why));
  CHECK(message([&] { (void)allclose(leaked, x); }) == error_at("[allclose] " + why));
}

// Of the sanitizers' operator new there is no bad_alloc: it ends the program.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TINYPHYS_NEW_ENDS
#endif
#endif
#ifdef TINYPHYS_NEW_ENDS
constexpr bool kNewThrows = false;
#else
constexpr bool kNewThrows = true;
#endif

TEST_CASE("errors of values: no memory") {
  const std::string why = "out of memory: float64[1099511627776] takes 8796093022208 bytes";
  const Tensor zeros = Tensor::zeros({kHuge});
  CHECK(message([&] { zeros.realize(); }) == error_at("[realize] " + why));
  if (kNewThrows) CHECK(message([&] { zeros.to_vector<double>(); }) == error_at("[to_vector] " + why));
  CHECK(message([&] { zeros.clone(); }) == error_at("[clone] " + why));
  CHECK(message([&] { (void)to_string(zeros); }) == error_at("[print] " + why));
  CHECK(message([&] { (void)streamed(zeros); }).find("[print] " + why) == 0);
  CHECK(message([&] { save("zeros.npy", zeros); }) == error_at("[save] " + why));
  CHECK(message([&] { (void)allclose(zeros, 0.0); }) == error_at("[allclose] " + why));
  if (kNewThrows)
    CHECK(message([&] { (void)Tensor::ones({kHuge}, DType::kBool).to_vector<bool>(); }) ==
          error_at("[to_vector] out of memory: bool[1099511627776] takes 1099511627776 bytes"));
  CHECK(message([&] {
          realize({zeros[3] + 1.0, Tensor::zeros({1 << 24, 1 << 24})});
        }) == error_at("[realize] out of memory: float64[16777216,16777216] takes 2251799813685248 bytes"));
  CHECK(message([&] {
          Tensor::zeros({kHuge, 1 << 15}).realize();
        }) ==
        error_at("[realize] out of memory: float64[1099511627776,32768] takes 288230376151711744 bytes"));
  CHECK(message([&] {
          scan([](Tensor y) { return std::pair{y + 1.0, y}; }, Tensor::zeros({1000}), 1e12).second.realize();
        }).find("[realize] out of memory: float64[1000000000000,1000] takes") == 0);
  CHECK(message([&] {
          matmul(Tensor::ones({1 << 22, 1}), Tensor::ones({1, 1 << 22})).realize();
        }).find("[realize] out of memory: float64[4194304,4194304] takes") == 0);
  // A formatter cannot take its line: the one where the tensor was made stands for it.
  const unsigned line = __LINE__ + 1;
  const Tensor large = zeros + Tensor::from({1.0});
  CHECK(message([&] { (void)fmt::format("{}", large); }).find("(" + place(line) + ")") != std::string::npos);
  CHECK(zeros[5].item<double>() == 0);  // nothing of that size is needed
}

TEST_CASE("errors of values: a format that does not fit") {
  const unsigned line = __LINE__ + 1;
  const Tensor x = Tensor::from({1.0, 2.0});
  CHECK(message([&] { (void)fmt::format("{:d}", x); }) ==
        "[format] \"{:d}\" is a format of integers, the tensor is float64[2] (" + place(line) + ")");
}

TEST_CASE("errors of values: within a progress callback") {
  const System quartic(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q * q * q).sum(); });
  const Tensor x = Tensor::from({1.0});
  unsigned line = 0;
  const auto run = [&](const std::function<void()>& call) {
    return message([&] {
      quartic.evolve({x, x}, {.dt = 0.01, .steps = 50, .progress = [&](const Progress&) { call(); }})
          .q.realize();
    });
  };
  line = __LINE__ + 1;
  const std::string said = run([&] { (x + 7.0).realize(); });
  CHECK(said ==
        "[realize] a value was asked for inside a progress callback, while another is being computed (" +
            place(line) + ")");
}

TEST_CASE("errors of values: a System without an energy, an evolution of no kind, without steps") {
  using Energy = std::function<Tensor(const Tensor&, const Tensor&)>;
  using Timed = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;
  CHECK(message([] { System(Energy{}); }) == error_at("[System] H is an empty function"));
  CHECK(message([] { System(Timed{}); }) == error_at("[System] H has no terms, or is an empty function"));
  CHECK(message([] { System(std::vector<EnergyTerm>{}); }) ==
        error_at("[System] H has no terms, or is an empty function"));
  CHECK(message([] {
          System({{"a", Energy{}}, {"b", Energy{}}});
        }) == error_at("[System] the term \"a\" is an empty function"));
  const System one(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const State z{Tensor::from({1.0}), Tensor::from({0.0})};
  CHECK(message([&] {
          one.evolve(z, {.dt = 0.1, .steps = 1, .integrator = Integrator(77)});
        }).find("[evolve] there is no integrator number 77; there are LeapfrogKDK, LeapfrogDKD") == 0);
  CHECK(message([&] { one.evolve(z, {.dt = 0.1, .steps = 1, .method = Method(99)}); }) ==
        error_at("[evolve] there is no method number 99; there are Default, Loop, Auto, TimeWarp and Split"));
  CHECK(message([&] { one.evolve(z, {.dt = 0.1}); }) == error_at("[evolve] steps must be given"));
  CHECK(one.evolve(z, {.dt = 0.1, .steps = 0}).q.item<double>() == 1);
  CHECK(message([&] {
          one.evolve({1, 0}, {.dt = 0.1, .steps = 1});
        }) == error_at("[evolve] the state must be float64 for now: q is int64[], p is int64[]; write 1.0 "
                       "for 1, or convert "
                       "with astype"));
}

}  // namespace tinyphys::testing
