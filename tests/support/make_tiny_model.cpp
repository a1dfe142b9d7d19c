// make_tiny_model FILE: writes a model with random weights, for programs that need any model.

#include <cstdio>

#include "tiny_model.hpp"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const auto bytes = krul::testing::tiny_model({});
  std::FILE* file = std::fopen(arguments[1], "wb");
  if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0) return 1;
}
