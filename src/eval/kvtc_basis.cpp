#include "krul/eval/kvtc_basis.hpp"
#include "krul/core/half.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <random>

#include "krul/eval/bit_packing.hpp"

namespace krul::eval {
namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowsView = Eigen::Map<const Rows>;

constexpr std::size_t sizes = KvtcGroup::sizes.size(), widths = KvtcGroup::widths.size();

/// [n, r] about the leading eigenvectors, those of the largest eigenvalues first: orthogonal iteration sorts
/// directions, and blocks of neighbours are then made diagonal. Neighbours with nearly the same eigenvalue may stay
/// mixed.
Eigen::MatrixXf leading_directions(const RowsView& covariance, Eigen::Index rank) {
  constexpr Eigen::Index more = 64, block = 512;  // directions beyond those wanted, so that the last ones converge too
  constexpr int rounds = 3;
  const Eigen::Index n = covariance.rows(), width = std::min(n, rank + more);
  std::minstd_rand random(1);
  std::normal_distribution<float> normal;
  Eigen::MatrixXf basis(n, width);
  for (float& value : basis.reshaped()) value = normal(random);
  for (int round = 0; round < rounds; ++round) {
    const Eigen::HouseholderQR<Eigen::MatrixXf> solver(covariance * basis);
    basis = solver.householderQ() * Eigen::MatrixXf::Identity(n, width);
  }
  for (Eigen::Index first = 0; first < width; first += block) {
    auto columns = basis.middleCols(first, std::min(block, width - first));
    const Eigen::MatrixXf small = columns.transpose() * (covariance * columns);
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXf> solver(small);
    columns = (columns * solver.eigenvectors().rowwise().reverse()).eval();
  }
  return basis.leftCols(rank);
}

/// @param components  [S, r]
std::vector<float> rounding_errors(const Rows& components) {
  const auto rank = static_cast<std::size_t>(components.cols());
  std::vector<float> errors(rank * sizes * widths, std::numeric_limits<float>::infinity());
  std::vector<std::uint8_t> codes(KvtcGroup::sizes.back());
  for (std::size_t first = 0; first < rank; ++first)
    for (std::size_t s = 0; s < sizes && first + KvtcGroup::sizes[s] <= rank; ++s)
      for (std::size_t w = 0; w < widths; ++w) {
        const std::size_t size = KvtcGroup::sizes[s];
        double sum = 0;
        for (Eigen::Index row = 0; row < components.rows(); ++row) {
          const std::span<const float> values(components.data() + static_cast<std::size_t>(row) * rank + first, size);
          const AffineScale scale = AffineScale::of(values, KvtcGroup::widths[w]);
          scale.quantise(values, KvtcGroup::widths[w], codes);
          const float step = float_from_f16(scale.scale), zero = float_from_f16(scale.zero);
          float squares = 0;
          for (std::size_t i = 0; i < size; ++i) {
            const float error = values[i] - (zero + step * static_cast<float>(codes[i]));
            squares += error * error;
          }
          sum += squares;
        }
        errors[(first * sizes + s) * widths + w] = static_cast<float>(sum / static_cast<double>(components.rows()));
      }
  return errors;
}

KvtcTensor fit_tensor(const KvMoments::Sums& sums, std::span<const float> samples, std::size_t rank) {
  const auto n = static_cast<Eigen::Index>(sums.mean.size());
  Eigen::MatrixXf directions =
      leading_directions(RowsView(sums.covariance.data(), n, n), static_cast<Eigen::Index>(rank));
  for (float& value : directions.reshaped()) value = float_from_f16(f16_from_float(value));
  Rows centred = RowsView(samples.data(), static_cast<Eigen::Index>(samples.size()) / n, n);
  centred.rowwise() -= Eigen::Map<const Eigen::RowVectorXf>(sums.mean.data(), n);
  const Rows components = centred * directions;
  const Eigen::RowVectorXf energies = components.colwise().squaredNorm() / static_cast<float>(components.rows());
  return {.mean = sums.mean,
          .directions = {directions.data(), directions.data() + directions.size()},  // columns one after the other
          .energies = {energies.data(), energies.data() + energies.size()},
          .errors = rounding_errors(components)};
}

/// Calls use(part, element type in a file) for each.
template <class Tensor, class Use>
void for_parts(Tensor& tensor, Use&& use) {
  use(tensor.mean, ElementType::f32);
  use(tensor.directions, ElementType::f16);
  use(tensor.energies, ElementType::f32);
  use(tensor.errors, ElementType::f32);
}

}  // namespace

KvtcBasis fit_kvtc_basis(const KvtcSamples& samples, std::size_t rank, Workers& workers) {
  expects(samples.moments.groups().size() == 1, "fit_kvtc_basis: moments of one group of all layers");
  const std::array<KvMoments::Sums, 2> sums = {samples.moments.keys(0), samples.moments.values(0)};
  const std::size_t features = sums[0].mean.size();
  expects(rank > 0 && rank <= features, "fit_kvtc_basis: at most as many components as features");
  expects(!samples.keys.empty() && samples.keys.size() % features == 0 && samples.values.size() == samples.keys.size(),
          "fit_kvtc_basis: samples of whole tokens");
  KvtcBasis basis;
  workers.parallel_for(2, [&](std::size_t i, std::size_t) {
    (i == 0 ? basis.keys : basis.values) = fit_tensor(sums[i], i == 0 ? samples.keys : samples.values, rank);
  });
  return basis;
}

std::vector<KvtcGroup> kvtc_plan(const KvtcTensor& tensor, std::size_t budget_bits) {
  constexpr std::size_t unit = 2;  // all costs are even
  constexpr float never = std::numeric_limits<float>::infinity();
  const std::size_t rank = tensor.rank(), budget = budget_bits / unit, stride = budget + 1;
  std::vector<double> energy(rank + 1);  // of all components before
  for (std::size_t i = 0; i < rank; ++i) energy[i + 1] = energy[i] + tensor.energies[i];
  // What is lost of the first components, at best, with at most so many units: [r + 1, budget + 1].
  std::vector<float> lost((rank + 1) * stride, never);
  std::vector<std::uint8_t> last(lost.size());  // the group that ends there
  std::fill_n(lost.begin(), stride, 0.0F);
  for (std::size_t end = 1; end <= rank; ++end)
    for (std::size_t choice = 0; choice < sizes * widths; ++choice) {
      const KvtcGroup group{KvtcGroup::sizes[choice / widths], KvtcGroup::widths[choice % widths]};
      const std::size_t cost = group.token_bits() / unit;
      if (group.size > end || cost > budget) continue;
      const std::size_t begin = end - group.size;
      const float error = tensor.errors[begin * sizes * widths + choice];
      const float* before = &lost[begin * stride];
      for (std::size_t used = cost; used <= budget; ++used) {
        const float found = before[used - cost] + error;
        float& best = lost[end * stride + used];
        if (found < best) {
          best = found;
          last[end * stride + used] = static_cast<std::uint8_t>(choice);
        }
      }
    }
  std::size_t end = 0, left = budget;
  for (std::size_t i = 1; i <= rank; ++i)
    if (lost[i * stride + budget] - energy[i] < lost[end * stride + budget] - energy[end]) end = i;
  std::vector<KvtcGroup> groups;
  while (end > 0) {
    const std::size_t choice = last[end * stride + left];
    groups.push_back({KvtcGroup::sizes[choice / widths], KvtcGroup::widths[choice % widths]});
    end -= groups.back().size;
    left -= groups.back().token_bits() / unit;
  }
  std::reverse(groups.begin(), groups.end());
  return groups;
}

std::vector<std::byte> to_bytes(const KvtcBasis& basis) {
  ByteWriter out;
  for (const KvtcTensor* tensor : {&basis.keys, &basis.values})
    for_parts(*tensor, [&](const std::vector<float>& part, ElementType type) {
      std::vector<std::byte> bytes(part.size() * size_of(type));
      from_float(type, part, bytes);
      out.number(static_cast<std::uint64_t>(part.size()));
      out.raw(bytes);
    });
  return std::move(out.bytes());
}

Result<KvtcBasis> kvtc_basis_from_bytes(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  KvtcBasis basis;
  for (KvtcTensor* tensor : {&basis.keys, &basis.values}) {
    for_parts(*tensor, [&](std::vector<float>& part, ElementType type) {
      const auto values = in.take(in.number<std::uint64_t>(), size_of(type));
      part.resize(values.size() / size_of(type));
      to_float(type, values, part);
    });
    if (tensor->directions.size() != tensor->rank() * tensor->features() ||
        tensor->errors.size() != tensor->rank() * sizes * widths)
      return fail(ErrorCode::corrupt, "this is no basis of KVTC's; fit it again");
  }
  if (!in.finished()) return fail(ErrorCode::corrupt, "this is no basis of KVTC's; fit it again");
  return basis;
}

}  // namespace krul::eval
