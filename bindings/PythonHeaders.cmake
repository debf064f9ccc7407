# Makes sure that there is a Python.h to compile against.
#
# Debian and Ubuntu package the headers apart from the interpreter (libpython3.X-dev), and neither python3 nor
# python3-venv brings them. Where they are missing they are taken from the same source as the interpreter, with
# `apt-get download`: it needs no root, checks the archive's signature and installs nothing; the headers are unpacked
# into the build folder. ATTNLIB_FETCH_PYTHON_HEADERS=OFF leaves that be.

option(ATTNLIB_FETCH_PYTHON_HEADERS "Fetch Python.h with apt-get download if the system lacks it" ON)

find_package(Python REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('include'))"
  OUTPUT_VARIABLE system_include
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

set(version ${Python_VERSION_MAJOR}.${Python_VERSION_MINOR})
set(folder ${CMAKE_BINARY_DIR}/python-headers)

if(NOT EXISTS "${system_include}/Python.h")
  set(fetched_include ${folder}/usr/include/python${version})
  find_program(apt_get apt-get)
  find_program(dpkg_deb dpkg-deb)
  # A Python below another prefix than /usr is not apt's, and its headers may differ.
  if(ATTNLIB_FETCH_PYTHON_HEADERS AND apt_get AND dpkg_deb AND system_include MATCHES "^/usr/include/"
     AND NOT EXISTS ${fetched_include}/Python.h)
    message(STATUS "No Python.h here: fetching libpython${version}-dev into the build folder")
    file(MAKE_DIRECTORY ${folder})
    execute_process(COMMAND ${apt_get} -q download libpython${version}-dev WORKING_DIRECTORY ${folder})
    file(GLOB packages ${folder}/libpython${version}-dev_*.deb)
    foreach(package IN LISTS packages)
      execute_process(COMMAND ${dpkg_deb} --extract ${package} ${folder})
      file(REMOVE ${package})
    endforeach()
    # Beside Python.h lies a pyconfig.h that includes the one of the architecture by a path from /usr/include.
    file(GLOB architecture_config ${folder}/usr/include/*/python${version}/pyconfig.h)
    if(architecture_config)
      file(COPY_FILE ${architecture_config} ${fetched_include}/pyconfig.h)
    endif()
    file(REMOVE_RECURSE ${folder}/usr/lib ${folder}/usr/share)
  endif()
  if(NOT EXISTS ${fetched_include}/Python.h)
    message(
      FATAL_ERROR
        "Python.h is not in ${system_include}. Install the headers of this Python: `apt-get install python3-dev` on "
        "Debian and Ubuntu (or `apt-get update`, after which they are fetched for you), "
        "`dnf install python3-devel` on Fedora.")
  endif()
  set(Python_INCLUDE_DIR ${fetched_include} CACHE PATH "Where Python.h is" FORCE)
endif()

# The same include of Debian's pyconfig.h, for a compiler that has a sysroot and so does not look below /usr/include.
if(CMAKE_SYSROOT)
  get_filename_component(all_includes ${system_include} DIRECTORY)
  file(GLOB architecture_configs RELATIVE ${all_includes} ${all_includes}/*/python${version}/pyconfig.h)
  foreach(config IN LISTS architecture_configs)
    file(CONFIGURE OUTPUT ${folder}/architecture/${config} CONTENT "#include \"${all_includes}/${config}\"\n")
    include_directories(SYSTEM ${folder}/architecture)
  endforeach()
endif()
