include(CMakePackageConfigHelpers)
if(NOT KRUL_HAS_ONEDNN)
  set(KRUL_HAS_ONEDNN FALSE)
endif()
set(krul_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/krul)

install(TARGETS krul EXPORT krulTargets FILE_SET HEADERS)
if(KRUL_BUILD_STATE)
  install(TARGETS krul_state EXPORT krulTargets)
endif()
if(KRUL_BUILD_EVAL)
  install(TARGETS krul_eval EXPORT krulTargets)
endif()
if(KRUL_BUILD_RUNTIME)
  install(TARGETS krul_model krul_runtime krul_onednn EXPORT krulTargets)
endif()
configure_package_config_file(cmake/krulConfig.cmake.in ${PROJECT_BINARY_DIR}/krulConfig.cmake
                              INSTALL_DESTINATION ${krul_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/krulConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/krulConfig.cmake ${PROJECT_BINARY_DIR}/krulConfigVersion.cmake
              cmake/FindOneDNN.cmake
        DESTINATION ${krul_package_dir})
install(EXPORT krulTargets NAMESPACE krul:: DESTINATION ${krul_package_dir})
