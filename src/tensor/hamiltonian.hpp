// An H that a user gives as a function psi -> H psi: recorded once, and shown to be linear and Hermitian.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "linalg/lanczos.hpp"
#include "support/records.hpp"
#include "tinyphys/tensor.hpp"
#include "uop/uop.hpp"

namespace tinyphys::detail {

struct HamiltonianRecord {
  UOp psi, value;       // a symbol, and H psi
  Records shown;        // how it is linear and Hermitian
  bool traced = false;  // it depends on an argument of a function that is being traced: it has no numbers

  // Axes of z before those of psi are a batch.
  UOp at(const UOp& z) const;
  // Bounds of its spectrum, computed when they are first asked for.
  LanczosBounds spectrum(const Where& where) const;

 private:
  mutable std::mutex mutex_;
  mutable std::optional<LanczosBounds> bounds_;
};

// Throws as Schroedinger does for H.
std::shared_ptr<const HamiltonianRecord> record_hamiltonian(const std::function<Tensor(const Tensor&)>& h,
                                                            const Shape& shape, const Where& where);

}  // namespace tinyphys::detail
