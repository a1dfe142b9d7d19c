#include "krul/calibrate/fit.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "krul/core/error.hpp"
#include "krul/core/half.hpp"
#include "krul/core/identity.hpp"
#include "matrix.hpp"

namespace krul {
namespace {

/// W of one tensor of one group: [blocks][D, D], rounded as it will be stored.
struct Weights {
  std::vector<Matrix> blocks, inverse;
  std::vector<std::uint16_t> stored;
  std::vector<float> scales;
};

/// The positive square root of M, no direction below the floor.
Matrix root_of(const MatrixD& square, double floor) {
  const Eigen::SelfAdjointEigenSolver<MatrixD> solver(square);
  const double least = std::max(solver.eigenvalues().maxCoeff() * floor, 1e-30);
  return (solver.eigenvectors() * solver.eigenvalues().cwiseMax(least).cwiseSqrt().asDiagonal() *
          solver.eigenvectors().transpose())
      .cast<float>();
}

Weights round_weights(const std::vector<Matrix>& exact) {
  Weights weights;
  for (const Matrix& block : exact) {
    const float scale = block.cwiseAbs().maxCoeff();
    Matrix rounded = block;
    for (Eigen::Index row = 0; row < block.rows(); ++row)
      for (Eigen::Index column = 0; column <= row; ++column) {
        const std::uint16_t half = f16_from_float(block(row, column) / scale);
        weights.stored.push_back(half);
        rounded(row, column) = rounded(column, row) = scale * float_from_f16(half);
      }
    weights.scales.push_back(scale);
    weights.inverse.push_back(rounded.cast<double>().inverse().cast<float>());
    weights.blocks.push_back(std::move(rounded));
  }
  return weights;
}

/// blocks * x for the rows of x.
Matrix multiply_rows(const std::vector<Matrix>& blocks, const Matrix& x) {
  Matrix result(x.rows(), x.cols());
  Eigen::Index row = 0;
  for (const Matrix& block : blocks) {
    result.middleRows(row, block.rows()).noalias() = block * x.middleRows(row, block.rows());
    row += block.rows();
  }
  return result;
}

std::uint8_t table_for(double deviation) {
  const double pair = std::round((std::log2(std::max(deviation, 1e-9)) + 4) * 8 / 3);
  return static_cast<std::uint8_t>(std::clamp(1 + 2 * static_cast<int>(pair), 1, 61));
}

/// A column of Q on its way into the profile.
struct Column {
  Eigen::VectorXf direction;   // [n]
  Eigen::RowVectorXf predict;  // [F]
  double residual = 0,
         spread = 0;  // standard deviations, in steps: what is coded, and the larger of it and the predicted
};

/// @param levels  of each sign
void store_narrow(const Eigen::VectorXf& values, float levels, std::vector<std::int8_t>& to,
                  std::vector<float>& scales) {
  const float largest = values.cwiseAbs().maxCoeff();
  const float scale = largest > 0 ? largest / levels : 1;
  scales.push_back(scale);
  for (const float value : values) to.push_back(static_cast<std::int8_t>(std::lrint(value / scale)));
}

/// Everything about the features that does not depend on the tensor.
struct Features {
  MatrixD root;  // L with L L^T = covariance + ridge
  Eigen::LLT<MatrixD> solver;
  Eigen::VectorXf mean;
};

/// What is known of one tensor of one group before there is a step: all in units in which the weighted values of the
/// whole cache have a root mean square of 1.
struct Spectrum {
  Weights weights;
  Eigen::VectorXf mean;        // [n]
  Matrix map;                  // W P: [n, F]
  Matrix predicted;            // map * root: [n, F], the root of the covariance of what the features predict
  Matrix covariance;           // of what they leave, [n, n]
  Eigen::VectorXf variances;   // its eigenvalues, ascending
  Eigen::MatrixXf directions;  // its eigenvectors, [n, n]
};

Spectrum spectrum_of(const KvMoments::Sums& sums, const std::vector<Matrix>& exact_weights, const Features* features) {
  const std::size_t n = sums.mean.size();
  Spectrum found;
  found.weights = round_weights(exact_weights);
  found.mean = view(sums.mean, n, 1);
  const auto& blocks = found.weights.blocks;
  found.covariance = multiply_rows(blocks, view(sums.covariance, n, n));
  found.covariance = multiply_rows(blocks, found.covariance.transpose()).transpose().eval();
  if (features != nullptr) {
    const Matrix cross = multiply_rows(blocks, view(sums.cross, n, static_cast<std::size_t>(features->mean.size())));
    found.map = features->solver.solve(cross.transpose().cast<double>()).transpose().cast<float>();
    found.predicted = (found.map.cast<double>() * features->root).cast<float>();
    const Matrix explained = found.map * cross.transpose();
    found.covariance += found.predicted * found.predicted.transpose() - explained - explained.transpose();
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXf> solver(found.covariance);
  found.variances = solver.eigenvalues();
  found.directions = solver.eigenvectors();
  return found;
}

/// Directions of what the features predict outside of the columns, most of it first, until n columns are there.
std::vector<Column> predicted_outside(const Spectrum& spectrum, const Matrix& basis, const FitSettings& settings,
                                      double step) {
  const Eigen::Index n = basis.rows();
  const Matrix outside = spectrum.predicted - basis * (basis.transpose() * spectrum.predicted);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXf> gram(outside.transpose() * outside);
  std::vector<Column> columns;
  for (Eigen::Index i = gram.eigenvalues().size(); i-- > 0;) {
    const double predicted = std::sqrt(std::max(0.0F, gram.eigenvalues()[i]));
    if (predicted < settings.keep * step || basis.cols() + static_cast<Eigen::Index>(columns.size()) == n) break;
    Eigen::VectorXf direction = outside * gram.eigenvectors().col(i) / static_cast<float>(predicted);
    direction -= basis * (basis.transpose() * direction);
    direction.normalize();
    const double residual = std::sqrt(std::max(0.0F, direction.dot(spectrum.covariance * direction)));
    columns.push_back({direction, {}, residual / step});
  }
  return columns;
}

std::vector<Column> columns_of(const Spectrum& spectrum, const FitSettings& settings, double step) {
  const Eigen::Index n = spectrum.variances.size();
  std::vector<Column> columns;
  for (Eigen::Index i = n; i-- > 0;) {
    const double residual = std::sqrt(std::max(0.0, double{spectrum.variances[i]})) / step;
    if (residual < settings.keep && !columns.empty()) break;
    columns.push_back({spectrum.directions.col(i), {}, residual});
  }
  const bool has_features = spectrum.map.size() > 0;
  if (has_features) {
    const Matrix basis = spectrum.directions.rightCols(static_cast<Eigen::Index>(columns.size()));
    for (Column& column : predicted_outside(spectrum, basis, settings, step)) columns.push_back(std::move(column));
  }
  for (Column& column : columns) {
    column.spread = column.residual;
    if (!has_features) continue;
    column.predict = column.direction.transpose() * spectrum.map / static_cast<float>(step);
    const double predicted = double{(column.direction.transpose() * spectrum.predicted).norm()} / step;
    column.spread = std::max(column.residual, predicted);
  }
  return columns;
}

TensorTransform transform_of(const Spectrum& spectrum, const Features* features, const FitSettings& settings,
                             double step) {
  const Eigen::Index n = spectrum.mean.size();
  std::vector<Column> columns = columns_of(spectrum, settings, step);
  TensorTransform fitted;
  fitted.weights = spectrum.weights.stored;
  for (const float scale : spectrum.weights.scales) fitted.weight_scales.push_back(scale / static_cast<float>(step));
  std::stable_sort(columns.begin(), columns.end(), [](const auto& a, const auto& b) { return a.spread > b.spread; });
  const auto wide = static_cast<std::size_t>(std::count_if(
      columns.begin(), columns.end(), [&](const Column& column) { return column.spread > settings.wide; }));
  Eigen::VectorXf offset = Eigen::VectorXf::Zero(n);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const Column& column = columns[i];
    const float levels = column.spread < settings.thin ? 31 : 127;
    fitted.spreads.push_back(table_for(column.spread));
    fitted.tables.push_back(table_for(column.residual));
    if (i < wide) {
      for (const float value : column.direction) fitted.wide_basis.push_back(bf16_from_float(value));
    } else {
      store_narrow(column.direction, levels, fitted.narrow_basis, fitted.narrow_scales);
    }
    if (features != nullptr) {
      store_narrow(column.predict, levels, fitted.prediction, fitted.prediction_scales);
      offset += column.direction * column.predict.dot(features->mean);
    }
  }
  const Matrix shift = multiply_rows(spectrum.weights.inverse, offset) * static_cast<float>(step);
  for (Eigen::Index i = 0; i < n; ++i) fitted.mean.push_back(spectrum.mean[i] - shift(i, 0));
  return fitted;
}

/// The square roots of the weights, [2, L * G], in units of what the whole cache deviates by.
struct Roots {
  std::vector<Matrix> blocks;
  std::vector<KvMoments::Sums> sums;  ///< [groups, 2]

  /// Those of one tensor of one group.
  [[nodiscard]] std::vector<Matrix> of(const FitInput& input, std::size_t i) const {
    const auto [first, layers] = input.moments.groups()[i / 2];
    const std::size_t heads = input.geometry.kv_heads;
    const auto begin = blocks.begin() + static_cast<std::ptrdiff_t>(i % 2 * blocks.size() / 2 + first * heads);
    return {begin, begin + static_cast<std::ptrdiff_t>(layers * heads)};
  }
};

Roots weight_roots(const FitInput& input, const FitSettings& settings, Workers& workers) {
  const Geometry& geometry = input.geometry;
  const std::size_t size = geometry.head_dim, square = size * size, heads = geometry.layers * geometry.kv_heads;
  expects(input.key_weights.size() == heads * square && input.value_weights.size() == heads * square,
          "ProfileFit: the weights are not [L, G, D, D]");
  expects(input.sensitivity.empty() || input.sensitivity.size() == 2 * geometry.layers,
          "ProfileFit: the sensitivities are not [2, L]");
  Roots roots;
  roots.blocks.resize(2 * heads);
  workers.parallel_for(2 * heads, [&](std::size_t i, std::size_t) {
    const std::size_t tensor = i / heads, head = i % heads, layer = head / geometry.kv_heads;
    const auto from = (tensor == 0 ? input.key_weights : input.value_weights).subspan(head * square, square);
    MatrixD weight = view(from, size, size).cast<double>();
    if (!input.sensitivity.empty()) weight *= input.sensitivity[tensor * geometry.layers + layer];
    roots.blocks[i] = root_of(weight, settings.floor);
  });
  double energy = 0;
  for (std::size_t i = 0; i < input.moments.groups().size(); ++i) {
    roots.sums.push_back(input.moments.keys(i));
    roots.sums.push_back(input.moments.values(i));
  }
  for (std::size_t i = 0; i < roots.sums.size(); ++i) {
    const auto blocks = roots.of(input, i);
    const std::size_t n = roots.sums[i].mean.size();
    const View covariance = view(roots.sums[i].covariance, n, n);
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      const auto at = static_cast<Eigen::Index>(block * size), count = static_cast<Eigen::Index>(size);
      energy += (blocks[block] * covariance.block(at, at, count, count) * blocks[block]).trace();
    }
  }
  const double deviation = std::sqrt(energy / static_cast<double>(2 * geometry.layers * geometry.kv_values()));
  for (Matrix& block : roots.blocks) block /= static_cast<float>(deviation);
  return roots;
}

}  // namespace

std::vector<float> inverse_weights(const FitInput& input, const FitSettings& settings, Workers& workers) {
  std::vector<float> inverse;
  for (const Matrix& block : weight_roots(input, settings, workers).blocks) {
    const auto values = to_vector(block.cast<double>().inverse().eval());
    inverse.insert(inverse.end(), values.begin(), values.end());
  }
  return inverse;
}

struct ProfileFit::State {
  ProfileData empty;  // without transforms
  FitSettings settings;
  Workers* workers;
  std::optional<Features> features;
  std::vector<Spectrum> spectra;  // [groups, 2]

  [[nodiscard]] const Features* features_or_none() const { return features ? &*features : nullptr; }
};

ProfileFit::ProfileFit(const FitInput& input, const FitSettings& settings, Workers& workers)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  const Roots roots = weight_roots(input, settings, workers);
  state.settings = settings;
  state.workers = &workers;
  if (const std::size_t f = input.moments.features(); f > 0) {
    Features& features = state.features.emplace();
    MatrixD covariance = view(input.moments.feature_covariance(), f, f).cast<double>();
    covariance.diagonal().array() += settings.ridge * covariance.trace() / static_cast<double>(f);
    features.solver.compute(covariance);
    features.root = features.solver.matrixL();
    features.mean = view(input.moments.feature_mean(), f, 1);
  }
  state.empty.geometry = describe(input.geometry);
  state.empty.features = input.moments.features();
  for (const auto& [first, layers] : input.moments.groups()) state.empty.groups.push_back({first, layers, {}, {}});
  state.spectra.resize(roots.sums.size());
  workers.parallel_for(state.spectra.size(), [&](std::size_t task, std::size_t) {
    const std::size_t i = state.spectra.size() - 1 - task;  // the largest groups come last: begin with them
    state.spectra[i] = spectrum_of(roots.sums[i], roots.of(input, i), state.features_or_none());
  });
}
ProfileFit::ProfileFit(ProfileFit&&) noexcept = default;
ProfileFit::~ProfileFit() = default;

ProfileData ProfileFit::at(double step) const {
  const State& state = *state_;
  expects(step > 0, "ProfileFit: a step is above zero");
  ProfileData profile = state.empty;
  state.workers->parallel_for(state.spectra.size(), [&](std::size_t task, std::size_t) {
    const std::size_t i = state.spectra.size() - 1 - task;
    GroupTransform& group = profile.groups[i / 2];
    (i % 2 == 0 ? group.keys : group.values) =
        transform_of(state.spectra[i], state.features_or_none(), state.settings, step);
  });
  return profile;
}

}  // namespace krul
