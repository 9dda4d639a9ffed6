// Ways to take N steps of an affine map at once. Each is one file here and one line in the list (propagators.cpp):
// it says what it would cost, builds what does not depend on the state, jumps, and reports.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/jacobian.hpp"
#include "support/records.hpp"
#include "uop/scan_layout.hpp"
#include "uop/storage.hpp"

namespace tinyphys {

// A value on the host: an array, or where `data` is null the bits of a number.
struct HostValue {
  const void* data = nullptr;
  std::size_t bytes = 0;
  std::int64_t scalar = 0;
  const Storage* storage = nullptr;  // of the array
};

// For the evaluator; `n` says dtype and shape.
Value<double> value_of(const Node* n, const HostValue& a);

// The map of a PROPAGATE with its captured values: all that the state and the number of steps do not enter.
struct JumpSystem {
  PropagateKind kind = PropagateKind::kAffine;
  Integrator integrator = Integrator::LeapfrogKDK;  // kHamiltonian
  bool separable = false;                           // kHamiltonian: H = T(p) + V(q)
  std::vector<std::int64_t> sizes;                  // elements of each part of the state
  std::vector<Dims> shapes;
  UOp map;
  std::vector<StateGroup> groups;           // of the params of the map
  std::vector<std::vector<char>> captured;  // bytes of its other params,
  std::vector<char> is_number;              // or the bits of a number

  std::int64_t size() const;  // of the whole state
  // The map in double-double, read off its graph when first asked for.
  const AffineForm& form() const;
  // Only these columns of it.
  AffineForm columns(std::span<const std::int64_t> wanted) const;
  // Where no element of part i of the state is above sizes[i]: the largest sum of |coefficient state| + |offset| in each
  // part of what the map gives. From form().
  std::vector<double> reach(std::span<const double> sizes) const;
  bool has_form() const { return form_ != nullptr; }
  double kept_doubles() const;

 private:
  mutable std::unique_ptr<AffineForm> form_;
};

// One jump: so many steps from this state.
struct JumpTask {
  std::int64_t steps = 0;
  double h = 0;          // kHamiltonian: dt
  bool has_loop = true;  // a jump that may be further from the exact map than the loop is refused
  std::vector<const double*> state;
  std::vector<double*> out;
};

// The sums over the steps of a jump of which its gradient by the entries of the map consists (scan_layout.hpp).
struct SumsTask {
  std::int64_t steps = 0;
  double h = 0;                                  // kHamiltonian: dt
  std::vector<const double*> state, cotangents;  // at the start, and at the end
  std::int64_t rows = 0;
  std::vector<double*> out;  // of the matrices, rows x size, for each part of the state; and of the vectors
};
struct SumsFindings {
  std::string refused = {};    // why there are none
  std::string structure = {};  // as of a jump
  // How far they may be off: of each, and of the largest of its kind.
  double of_each = 0, of_largest = 0;
  std::vector<std::vector<double>> end = {};  // the state at the end, where it is known
};

struct JumpEstimate {
  double build_s = 0, jump_s = 0;  // build_s: 0 when it is there
  std::string refused = {};        // why this way is none
  bool off_topic = false;          // and that is not worth telling: nothing suggested it
  bool if_no_other = false;        // others are closer to the exact map at this size
};

// What a jump has to say; 0: nothing.
struct JumpFindings {
  std::string refused = {};    // why it was not made; the other fields then say what is known
  std::string structure = {};  // "1000 normal modes of one coupled block"
  // Bounds of the error against the exactly evaluated map, one for each part of the state, relative to its norm.
  std::vector<double> error = {};
  double largest_h_omega = 0;
  std::int64_t unstable_modes = 0;
  double growth_decades = 0;
  // The largest element of each part of the state, at the start and at the end: empty where it was not looked at.
  std::vector<double> start_sizes = {}, end_sizes = {};
};

class Propagator {
 public:
  virtual ~Propagator() = default;
  virtual JumpEstimate estimate(const JumpTask& task) const = 0;
  // What all jumps of the system share. Empty, or why there are none.
  virtual std::string build() = 0;
  // After build. Writes `out` unless it refuses.
  virtual JumpFindings jump(const JumpTask& task) = 0;
  // The sums of a gradient, where this way has them; after build.
  virtual double estimate_sums(const SumsTask&) const { return 0; }
  virtual SumsFindings sums(const SumsTask&) { return {.refused = "has no sums of a gradient"}; }
  // As JumpSystem::reach, after build; of a way that does not read the form.
  virtual std::vector<double> reach(std::span<const double>) const { return {}; }
  // After build() refused: no other way could do better, and none is tried.
  virtual bool refuses_for_all() const { return false; }
  // Doubles held, for the bound on what is kept.
  virtual double kept_doubles() const { return 0; }
};

struct PropagatorRow {
  std::string_view name;   // "normal-mode jump"
  bool reads_form = true;  // it wants all of JumpSystem::form(): tried after those that do not
  std::unique_ptr<Propagator> (*make)(std::shared_ptr<const JumpSystem> system);
  bool (*has_sums)(const JumpSystem& system) = nullptr;  // of a gradient by the map
};

// All ways, in the order in which equal costs are decided.
std::vector<PropagatorRow> propagators();
// A further one, for tests. Not while a jump runs.
void add_propagator(const PropagatorRow& row);

// Each from its own file.
std::unique_ptr<Propagator> make_normal_modes(std::shared_ptr<const JumpSystem> system);
std::unique_ptr<Propagator> make_lattice(std::shared_ptr<const JumpSystem> system);
std::unique_ptr<Propagator> make_uniform(std::shared_ptr<const JumpSystem> system);
std::unique_ptr<Propagator> make_powering(std::shared_ptr<const JumpSystem> system);

}  // namespace tinyphys
